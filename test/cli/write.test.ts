/** `vhdkit write` as people and scripts use it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { sha256Sync } from '../support/content.js';
import { PROJECT_ROOT, run, vhdkit, vhdkitJson } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { testFolder } from '../support/tmp.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const MiB = 1024 * 1024;

let folder: string;
let image: string;

beforeEach(async () => {
  folder = testFolder();
  image = path.join(folder, 'disk.vhdx');
  await vhdkitJson(['create', image, '8M']);
});

/** Runs a line of shell in which `$vhdkit` is the program. */
function shell(line: string): ReturnType<typeof run> {
  return run('bash', ['-c', line.replaceAll('vhdkit', '"$0" "$1"'), process.execPath, BIN], { cwd: folder });
}

async function read(offset: number, length: number): Promise<Buffer> {
  return (await vhdkit(['read', image, '--offset', String(offset), '--length', String(length)])).output;
}

describe('write', () => {
  test('from a pipe and from a file, and says what was done', async () => {
    writeFileSync(path.join(folder, 'part'), seededBytes(100_000, 1));
    const piped = await shell('head -c 1000 part | vhdkit write disk.vhdx --offset 1M');
    expect(piped).toMatchObject({ status: 0, stderr: '' });
    expect(piped.stdout).toMatch(/^Wrote 1000 B to disk\.vhdx \(vhdx, dynamic\) at offset 1048576 in /);
    const { stdout } = await shell('vhdkit write disk.vhdx --offset 2000000 --json < part');
    expect(JSON.parse(stdout)).toEqual({
      schemaVersion: 1,
      path: 'disk.vhdx',
      format: 'vhdx',
      type: 'dynamic',
      offset: 2_000_000,
      length: 100_000,
      virtualSize: 8 * MiB,
      fileSize: expect.any(Number),
      elapsedMs: expect.any(Number),
      dryRun: false,
    });
    expect((await read(MiB, 1000)).equals(seededBytes(100_000, 1).subarray(0, 1000))).toBe(true);
    expect((await read(2_000_000, 100_000)).equals(seededBytes(100_000, 1))).toBe(true);
  });

  test('a file is taken from where it stands, and what is left of it stays', async () => {
    writeFileSync(path.join(folder, 'part'), 'abcdefghij');
    const line =
      '{ head -c 0; dd bs=3 count=1 status=none of=/dev/null; vhdkit write disk.vhdx --json; } < part';
    expect(JSON.parse((await shell(line)).stdout)).toMatchObject({ length: 7 });
    expect((await read(0, 8)).toString('latin1')).toBe('defghij\0');
  });

  test('--length takes as much of an endless stream', async () => {
    const { status } = await shell('yes | vhdkit write disk.vhdx --offset 5 --length 4M -q');
    expect(status).toBe(0);
    const bytes = await read(0, 4 * MiB + 20);
    expect(bytes.subarray(0, 5).equals(Buffer.alloc(5))).toBe(true);
    expect(bytes.subarray(5, 5 + 4 * MiB).toString('latin1')).toBe('y\n'.repeat(2 * MiB));
    expect(bytes.subarray(5 + 4 * MiB).equals(Buffer.alloc(15))).toBe(true);
  });

  test('refuses a file that is too long before it writes; a pipe that is fills the disk and says so', async () => {
    const before = sha256Sync(image);
    writeFileSync(path.join(folder, 'long'), Buffer.alloc(8 * MiB + 1, 1));
    const refused = await shell('vhdkit write disk.vhdx < long');
    expect(refused).toMatchObject({ status: 1, stdout: '' });
    expect(refused.stderr).toMatch(/do not fit on the disk[\s\S]*hint: Nothing was written/);
    expect(sha256Sync(image)).toBe(before);
    const piped = await shell('cat long | vhdkit write disk.vhdx --json');
    expect(piped.status).toBe(1);
    expect(JSON.parse(piped.stdout)).toMatchObject({
      error: { code: 'OUT_OF_RANGE', context: { offset: 0, length: 8 * MiB } },
    });
    expect((await read(8 * MiB - 3, 3)).equals(Buffer.alloc(3, 1))).toBe(true);
  });

  test('zeros are stored like other bytes, unless they are looked for', async () => {
    const stored = async (): Promise<number> => Number((await vhdkitJson(['info', image])).allocatedBytes);
    const empty = await stored();
    await shell('vhdkit write disk.vhdx --length 8M --zeros scan < /dev/zero');
    expect((await stored()) - empty).toBeLessThan(2 * MiB);
    await shell('vhdkit write disk.vhdx --length 8M < /dev/zero');
    expect((await stored()) - empty).toBeGreaterThanOrEqual(8 * MiB);
  });

  test('does not write to what others depend on, unless forced', async () => {
    await vhdkitJson([
      'create',
      path.join(folder, 'child.vhdx'),
      '--type',
      'differencing',
      '--parent',
      image,
    ]);
    const before = sha256Sync(image);
    const refused = await shell('echo x | vhdkit write disk.vhdx');
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/parent of .*child\.vhdx.*\n[\s\S]*--force/);
    const rehearsed = await shell('vhdkit write disk.vhdx --dry-run --force');
    expect(rehearsed.stdout).toMatch(/^Would write all of stdin to /);
    expect(sha256Sync(image)).toBe(before);
    expect((await shell('echo x | vhdkit write disk.vhdx --force')).status).toBe(0);
  });

  test('wants bytes: not a terminal, not nothing', async () => {
    const terminal = await shell('script -qec "vhdkit write disk.vhdx" /dev/null < /dev/null | cat');
    if (terminal.status === 0) expect(terminal.stdout).toContain('from a terminal');
    const empty = await shell('vhdkit write disk.vhdx < /dev/null');
    expect(empty.status).toBe(1);
    expect(empty.stderr).toContain('gave no bytes');
    expect((await shell('vhdkit write disk.vhdx --length 0 < /dev/zero')).status).toBe(64);
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)(
    '%s: what was written stays and is told, the image is sound and free',
    async (signal, status) => {
      await vhdkitJson(['create', image, '512M', '--force']);
      const zero = openSync('/dev/zero', 'r');
      const args = ['write', image, '--length', '512M', '--json', '--progress', 'json'];
      const child = spawn(process.execPath, [BIN, ...args], { stdio: [zero, 'pipe', 'pipe'] });
      let stdout = '';
      let sent = false;
      child.stdout?.on('data', (chunk: Buffer) => {
        stdout += chunk.toString();
      });
      child.stderr?.on('data', () => {
        if (!sent) child.kill(signal);
        sent = true;
      });
      const [code] = (await once(child, 'close')) as [number | null];
      expect(code).toBe(status);
      const { error } = JSON.parse(stdout) as { error: { code: string; context: { length: number } } };
      expect(error.code).toBe('CANCELLED');
      expect(error.context.length).toBeGreaterThan(0);
      expect((await vhdkit(['check', image])).status).toBe(0);
      expect(readdirSync(folder).filter((name) => name.includes('lock'))).toEqual([]);
      const { extents } = (await vhdkitJson(['map', image])) as {
        extents: { state: string; offset: number; length: number }[];
      };
      const data = extents
        .filter(({ state }) => state === 'data')
        .reduce((sum, { length }) => sum + length, 0);
      expect(data).toBeGreaterThanOrEqual(error.context.length);
    },
  );
});
