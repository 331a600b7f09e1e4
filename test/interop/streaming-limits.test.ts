/**
 * Pipes that break, storage that is full, and how much memory a stream takes.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, ftruncateSync, openSync, readdirSync, statSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { loopDevice, mountedFileSystem } from '../support/mounts.js';
import { canLoop, canMount, lacking } from '../support/requires.js';
import { PROJECT_ROOT, vhdkit } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { mustShell, shell } from '../support/shell-pipes.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const MiB = 1024 ** 2;
const GiB = 1024 * MiB;
/** The promise for 20 GiB disks, in KiB as the system counts. */
const MAX_MEMORY_KIB = 130 * 1024;
let disk: string;

function makeDisk(file: string, size: number, pieces: number): string {
  const fd = openSync(file, 'w');
  ftruncateSync(fd, size);
  const bytes = seededBytes(4 * MiB, 3);
  for (let piece = 0; piece < pieces; piece += 1) {
    const at = Math.floor((size / pieces) * piece);
    writeSync(fd, bytes, 0, bytes.length, at - (at % 4096));
  }
  closeSync(fd);
  return file;
}

beforeAll(() => {
  disk = makeDisk(path.join(makeTempFolder('streaming-limits'), 'disk.raw'), 64 * MiB, 8);
});

describe('a reader that goes away', () => {
  it.each(['raw', 'vhd', 'vhdx', 'vhd --type fixed'])('ends %s quietly, with a code', async (format) => {
    const script = `vhdkit convert "$1" - -O ${format} | head -c 100000 > /dev/null; echo "\${PIPESTATUS[0]}"`;
    const { stdout, stderr } = await shell(script, [disk]);
    expect({ stdout, stderr }).toEqual({ stdout: '141\n', stderr: '' });
  });

  it('ends a conversion from stdin to stdout too', async () => {
    const script = `cat "$1" | vhdkit convert - - -f raw -O raw | head -c 100000 > /dev/null; echo "\${PIPESTATUS[1]}"`;
    const { stdout, stderr } = await shell(script, [disk]);
    expect({ stdout, stderr }).toEqual({ stdout: '141\n', stderr: '' });
  });

  it('a full disk under stdout is an error of at most three lines', async () => {
    const { status, stderr } = await shell('vhdkit convert "$1" - -O vhd > /dev/full', [disk]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^Error: .*ENOSPC/);
    expect(stderr.trimEnd().split('\n').length).toBeLessThanOrEqual(3);
  });
});

describe('a stream that is not what it should be', () => {
  it.each([
    [
      'ends early',
      'head -c 1M "$1" | vhdkit convert - out.vhdx -f raw --size 64M',
      1,
      /ended after 1048576 bytes/,
    ],
    ['goes on', 'vhdkit convert - out.vhdx -f raw --size 1M < "$1"', 64, /longer than the 1048576 bytes/],
    ['has no bytes', 'vhdkit convert - out.raw -f raw < /dev/null', 1, /gave no bytes/],
    ['is a folder', 'vhdkit convert - out.raw -f raw < .', 1, /directory/],
    ['is no VHDX', 'vhdkit convert - out.raw -f vhdx < "$1"', 1, /stdin/],
  ])('%s', async (_, line, code, message) => {
    const folder = testFolder();
    const { status, stderr } = await shell(line, [disk], { cwd: folder });
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/hint:/);
    expect(status).toBe(code);
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each(['vhd', 'vhdx'])('is a %s cut off on the way', async (format) => {
    const folder = testFolder();
    const script = `vhdkit convert "$1" - -O ${format} -q | head -c 9M | { vhdkit convert - out.raw -f ${format}; echo $? >&2; }`;
    const { stderr } = await shell(script, [disk], { cwd: folder });
    expect(stderr).toMatch(/Error: stdin/);
    expect(stderr.trimEnd().split('\n').at(-1)).toBe('1');
    expect(readdirSync(folder)).toEqual([]);
  });

  it('is a differencing image, whose parent nobody can find', async () => {
    const child = path.join(PROJECT_ROOT, 'fixtures/child-partial.vhdx');
    const folder = testFolder();
    const script = 'vhdkit convert - out.raw -f vhdx < "$1"';
    const { status, stderr } = await shell(script, [child], { cwd: folder });
    expect(stderr).toMatch(/differencing image/);
    expect(status).toBe(1);
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('a signal', () => {
  /** Runs a conversion whose stream stands still, sends the signal, and waits for the end. */
  async function stopped(
    args: string[],
    signal: NodeJS.Signals,
  ): Promise<{ code: number | null; stderr: string; took: number }> {
    const child = spawn(process.execPath, [BIN, 'convert', ...args, '--progress', 'none'], { stdio: 'pipe' });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.stdin.on('error', () => undefined);
    // 64 KiB fit into a pipe: the rest is taken by a program that is at work. Nobody reads stdout; once something is
    // there, the program soon waits.
    const taken = new Promise<void>((resolve) => {
      child.stdin.write(Buffer.alloc(3 * MiB, 1), () => resolve());
      child.stdout.once('readable', resolve);
    });
    await taken;
    await new Promise((resolve) => setTimeout(resolve, 200));
    const started = performance.now();
    child.kill(signal);
    const [code] = (await once(child, 'exit')) as [number | null];
    child.stdout.destroy();
    return { code, stderr, took: performance.now() - started };
  }

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s while waiting for stdin: exit %i, nothing left', async (signal, expected) => {
    const stop = async (args: string[]): Promise<void> => {
      const folder = makeTempFolder('stopped');
      const { code, stderr, took } = await stopped(['-', path.join(folder, 'out.raw'), ...args], signal);
      expect(stderr).toMatch(/^Error: Cancelled/m);
      expect(code).toBe(expected);
      expect(took).toBeLessThan(3000);
      expect(readdirSync(folder)).toEqual([]);
    };
    await Promise.all([
      stop(['-f', 'raw']),
      stop(['-f', 'raw', '--size', '64M', '-O', 'vhdx']),
      stop(['-f', 'vhdx']),
    ]);
  });

  it('while nobody takes what is written: the same', async () => {
    const { code, stderr, took } = await stopped([disk, '-', '-O', 'raw'], 'SIGTERM');
    expect(stderr).toMatch(/^Error: Cancelled/);
    expect(code).toBe(143);
    expect(took).toBeLessThan(3000);
  });
});

describe.skipIf(!canMount('tmpfs'))('a small tmpfs (needs root)', () => {
  it('that the spool does not fit into: says where and what to do', async () => {
    const small = mountedFileSystem('tmpfs', 8);
    if (!small) throw new Error('no tmpfs');
    try {
      const script = 'vhdkit convert - "$2/out.vhdx" -f raw < "$1"';
      const { status, stderr } = await shell(script, [disk, small.path]);
      expect(status).toBe(1);
      expect(stderr).toContain(`No space left in ${small.path}, where stdin is spooled`);
      expect(stderr).toContain('--temp-dir');
      expect(readdirSync(small.path)).toEqual([]);
      expect(await freeBytes(small.path)).toBeGreaterThan(7 * MiB);
    } finally {
      small.unmount();
    }
  });

  it('that the target does not fit into: nothing is left', async () => {
    const small = mountedFileSystem('tmpfs', 8);
    if (!small) throw new Error('no tmpfs');
    try {
      for (const line of ['"$2/out.raw" -f raw', '"$2/out.vhd" -f raw --size 64M']) {
        const { status, stderr } = await shell(`vhdkit convert - ${line} < "$1"`, [disk, small.path]);
        expect(stderr).toMatch(/ENOSPC[\s\S]*hint:/);
        expect(status).toBe(1);
        expect(readdirSync(small.path)).toEqual([]);
      }
    } finally {
      small.unmount();
    }
  });
});

async function freeBytes(folder: string): Promise<number> {
  const { stdout } = await mustShell('df -B1 --output=avail "$1" | tail -n 1', [folder]);
  return Number(stdout);
}

describe.skipIf(!canLoop())('a block device (needs loop devices)', () => {
  it('takes a raw stream, zeros included, and refuses one that is too long', async () => {
    const folder = testFolder();
    const backing = path.join(folder, 'backing');
    writeFileSync(backing, Buffer.alloc(64 * MiB, 0xaa));
    const device = loopDevice(backing);
    try {
      await mustShell('cat "$1" | vhdkit convert - "$2" -f raw --force && cmp "$1" "$2"', [
        disk,
        device.path,
      ]);
      const longer = 'cat "$1" "$1" | vhdkit convert - "$2" -f raw --force';
      const { status, stderr } = await shell(longer, [disk, device.path]);
      expect(stderr).toMatch(/ends at 67108864 bytes[\s\S]*hint:/);
      expect(status).not.toBe(0);
      const sized = await shell('vhdkit convert - "$2" -f raw --size 65M --force < "$1"', [
        disk,
        device.path,
      ]);
      expect(sized.stderr).toMatch(/holds 67108864 bytes/);
    } finally {
      device.detach();
    }
  });
});

const lacksTime = lacking('time');

describe.skipIf(lacksTime)(`memory for a disk of 20 GiB${lacksTime}`, { timeout: 240_000 }, () => {
  let large: string;

  beforeAll(() => {
    large = makeDisk(path.join(makeTempFolder('streaming-memory'), 'large.raw'), 20 * GiB, 75);
  });

  /** Peak resident memory of `vhdkit` in a script that writes it to the file `$peak`. */
  async function peak(script: string, args: readonly string[]): Promise<number> {
    const report = path.join(testFolder(), 'peak');
    const measured = `peak=$1; shift; measured() { command time -f %M -o "$peak" "$node" "$bin" "$@"; }; ${script}`;
    await mustShell(measured, [report, ...args], { timeout: 300_000 });
    const { stdout } = await mustShell('cat "$1"', [report]);
    return Number(stdout);
  }

  it.each(['vhd', 'vhdx', 'vhd --zeros scan'])('out as %s', async (format) => {
    const out = path.join(testFolder(), 'out');
    expect(await peak(`measured convert "$1" - -q -O ${format} | cat > "$2"`, [large, out])).toBeLessThan(
      MAX_MEMORY_KIB,
    );
    expect(statSync(out).size).toBeGreaterThan(300 * MiB);
  });

  // Every zero goes through the pipe: ten times the bound is more than enough to see memory grow.
  it('out as raw, the first 1.3 GiB', async () => {
    const head = path.join(testFolder(), 'head.raw');
    await mustShell('cp --sparse=always "$1" "$2" && truncate -s 1300M "$2"', [large, head]);
    const script = 'measured convert "$2" - -q -O raw | wc -c > /dev/null';
    expect(await peak(script, [large, head])).toBeLessThan(MAX_MEMORY_KIB);
  });

  it('in from a VHDX', async () => {
    const folder = testFolder();
    const target = path.join(folder, 'out.vhd');
    const script = 'vhdkit convert "$1" - -q -O vhdx | measured convert - "$2" -q';
    expect(await peak(script, [large, target])).toBeLessThan(MAX_MEMORY_KIB);
    const same = await vhdkit(['compare', large, target]);
    expect(same.status, same.stderr).toBe(0);
  });

  it('in from 512 MiB of raw', async () => {
    const target = path.join(testFolder(), 'out.vhdx');
    const script = 'head -c 512M "$1" | measured convert - "$2" -q -f raw --size 512M';
    expect(await peak(script, [large, target])).toBeLessThan(MAX_MEMORY_KIB);
  });
});
