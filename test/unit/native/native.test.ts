/**
 * The system calls, against what Node and the file system itself say.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it, vi } from 'vitest';
import {
  Errno,
  errnoError,
  errnoName,
  type FiemapExtent,
  nativeCalls,
  nativeUnavailableReason,
} from '../../../src/native/native.js';
import { type FileSystemKind, loopDevice, mountNew } from '../../support/mounts.js';
import { canLoop, canMount } from '../../support/requires.js';
import { PROJECT_ROOT } from '../../support/run.js';
import { makeTempFolder, removeFolder } from '../../support/tmp.js';

const native = nativeCalls();
const folder = makeTempFolder('native');
const open: number[] = [];

function file(name: string, content: Uint8Array | string = '', where = folder): number {
  writeFileSync(path.join(where, name), content);
  const fd = openSync(path.join(where, name), 'r+');
  open.push(fd);
  return fd;
}

function closeAll(): void {
  for (const fd of open.splice(0)) closeSync(fd);
}

afterAll(() => {
  closeAll();
  removeFolder(folder);
});

describe.skipIf(!native)('system calls', () => {
  if (!native) return;

  it('a bad descriptor gives its errno everywhere', async () => {
    const bad = 987_654;
    expect(native.seekData(bad, 0)).toBe(-Errno.EBADF);
    expect(native.blockDeviceSize(bad)).toBe(-Errno.EBADF);
    expect(native.blockDeviceSectorSizes(bad)).toBeUndefined();
    expect(native.probeClone(bad, bad)).toBe(Errno.EBADF);
    expect(await native.cloneRange(bad, 0, 4096, bad, 0)).toBe(Errno.EBADF);
    expect(await native.cloneRange(bad, 0, 2 ** 31, bad, 0)).toBe(Errno.EBADF);
    expect(await native.copyFileRange(bad, 0, bad, 0, 1)).toBe(-Errno.EBADF);
    expect(await native.punchHole(bad, 0, 1)).toBe(Errno.EBADF);
    expect(await native.punchHole(bad, 0, 2 ** 31)).toBe(Errno.EBADF);
    expect(await native.blockZeroOut(bad, 0, 512)).toBe(Errno.EBADF);
  });

  it('copyFileRange copies at any offset and answers 0 at the end', async () => {
    const from = file('copy-a', 'abcdefghij');
    const to = file('copy-b', '----------');
    expect(await native.copyFileRange(from, 3, to, 1, 4)).toBe(4);
    expect(await native.copyFileRange(from, 8, to, 9, 100)).toBe(2);
    expect(await native.copyFileRange(from, 10, to, 0, 1)).toBe(0);
    expect(readFileSync(path.join(folder, 'copy-b'), 'latin1')).toBe('-defg----ij');
  });

  it('probeCopy tells whether a pair can be copied, and copies nothing', () => {
    const from = file('probe-a', 'abc');
    const to = file('probe-b', '---');
    expect(native.probeCopy(from, to)).toBe(0);
    expect(native.probeCopy(987_654, to)).toBe(Errno.EBADF);
    const elsewhere = openSync('/proc/self/status', 'r');
    expect(native.probeCopy(elsewhere, to)).not.toBe(0);
    closeSync(elsewhere);
    expect(readFileSync(path.join(folder, 'probe-b'), 'latin1')).toBe('---');
  });

  it('errno belongs to its own call, however many are in flight', async () => {
    const from = file('many-a', 'x'.repeat(100));
    const to = file('many-b');
    // A bad descriptor, a range that overlaps itself, and a good call.
    const calls = [
      () => native.copyFileRange(987_654, 0, to, 0, 10),
      () => native.copyFileRange(from, 0, from, 5, 50),
      () => native.copyFileRange(from, 0, to, 0, 10),
    ];
    const answers = [-Errno.EBADF, -Errno.EINVAL, 10];
    const results = await Promise.all(Array.from({ length: 600 }, (_, i) => calls[i % 3]?.()));
    const expected = results.map((_, i) => answers[i % 3]);
    expect(results).toEqual(expected);
  });

  it('punched holes are found, beyond 4 GiB too', async () => {
    const size = 6 * 2 ** 30;
    const fd = file('holes');
    const block = new Uint8Array(8192).fill(7);
    writeSync(fd, block, 0, block.length, size);
    expect(native.seekData(fd, 0)).toBe(size);
    expect(native.seekHole(fd, size)).toBe(size + 8192);
    expect(native.seekData(fd, size + 8192)).toBe(-Errno.ENXIO);
    expect(await native.punchHole(fd, size, 4096)).toBe(0);
    expect(native.seekData(fd, 0)).toBe(size + 4096);
    expect(fstatSync(fd).size).toBe(size + 8192);
    expect(native.fileSystemBlockSize(fd)).toBeGreaterThanOrEqual(512);
    closeAll();
  });

  it('no block device, no device sizes', () => {
    const fd = file('plain', 'x');
    expect(native.blockDeviceSize(fd)).toBe(-Errno.ENOTTY);
    expect(native.blockDeviceSectorSizes(fd)).toBeUndefined();
  });

  it.skipIf(!canLoop())('a block device tells its size and sectors, and is zeroed', async () => {
    writeFileSync(path.join(folder, 'device'), new Uint8Array(1 << 20).fill(1));
    const device = loopDevice(path.join(folder, 'device'));
    try {
      const fd = openSync(device.path, 'r+');
      open.push(fd);
      expect(native.blockDeviceSize(fd)).toBe(1 << 20);
      expect(native.blockDeviceSectorSizes(fd)).toEqual({ logical: 512, physical: expect.any(Number) });
      expect(await native.blockZeroOut(fd, 4096, 8192)).toBe(0);
      expect(await native.blockZeroOut(fd, 1, 512)).toBe(Errno.EINVAL);
      expect(await native.punchHole(fd, 65_536, 4096)).toBe(0);
      closeAll();
      const expected = new Uint8Array(1 << 20).fill(1).fill(0, 4096, 12_288).fill(0, 65_536, 69_632);
      expect(Buffer.compare(readFileSync(device.path), expected)).toBe(0);
    } finally {
      closeAll();
      device.detach();
    }
  });
});

describe.skipIf(!native).each(['xfs', 'btrfs', 'ext4'] as const)('on %s', (kind: FileSystemKind) => {
  const shares = kind !== 'ext4';
  it.skipIf(!canMount(kind))(shares ? 'ranges are cloned' : 'cloning is refused', async () => {
    if (!native) return;
    const mounted = mountNew(kind);
    try {
      const data = new Uint8Array(5 * 4096).map((_, i) => i % 251);
      const from = file('a', data, mounted.path);
      const to = file('b', '', mounted.path);
      const answer = shares ? 0 : Errno.EOPNOTSUPP;
      expect(native.probeClone(from, to)).toBe(shares ? Errno.EINVAL : Errno.EOPNOTSUPP);
      expect(fstatSync(to).size).toBe(0);
      // More than run on the calling thread in a row.
      for (let i = 0; i < 130; i += 1) {
        expect(await native.cloneRange(from, 4096, 8192, to, i * 8192)).toBe(answer);
      }
      expect(native.probeClone(from, file('elsewhere'))).toBe(Errno.EXDEV);
      if (!shares) return;
      expect(
        Buffer.compare(
          readFileSync(path.join(mounted.path, 'b')).subarray(129 * 8192),
          data.subarray(4096, 12_288),
        ),
      ).toBe(0);
      expect(await native.cloneRange(from, 512, 4096, to, 0)).toBe(Errno.EINVAL);
      const extents = native.fiemap(from, 0, data.length);
      expect(extents.reduce((sum, { length }) => sum + length, 0)).toBe(data.length);
      expect(extents.some(({ flags }) => flags & 0x2000)).toBe(true);
    } finally {
      closeAll();
      mounted.unmount();
    }
  });
});

describe.skipIf(!native)('fiemap', () => {
  it('lists more extents than fit one call, in order', () => {
    if (!native) return;
    const fd = file('fragments');
    const block = new Uint8Array(4096).fill(1);
    for (let i = 0; i < 1500; i += 1) writeSync(fd, block, 0, block.length, i * 8192);
    let extents: FiemapExtent[];
    try {
      extents = native.fiemap(fd, 0, 1500 * 8192);
    } catch (error) {
      // A temporary folder in memory.
      expect(error).toMatchObject({ code: 'UNSUPPORTED' });
      return;
    }
    expect(extents.map(({ logical }) => logical)).toEqual(Array.from({ length: 1500 }, (_, i) => i * 8192));
    expect(native.fiemap(fd, 8192, 8192).map(({ logical }) => logical)).toEqual([8192]);
  });
});

describe('loading', () => {
  const module = pathToFileURL(path.join(PROJECT_ROOT, 'src/native/native.ts')).href;
  const run = (code: string, env: Record<string, string>) =>
    spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], {
      cwd: PROJECT_ROOT,
      env: { ...process.env, ...env },
      encoding: 'utf8',
    });

  it('is off with VHDKIT_NO_NATIVE=1, and says so', () => {
    const code = `import { nativeCalls, nativeUnavailableReason } from '${module}';
      console.log(nativeCalls() === undefined, nativeUnavailableReason());`;
    expect(run(code, { VHDKIT_NO_NATIVE: '1' }).stdout).toBe('true VHDKIT_NO_NATIVE=1 is set\n');
  });

  it.skipIf(process.platform !== 'linux')('happens on the first call, not on import', () => {
    const code = `import { readFileSync } from 'node:fs';
      const { nativeCalls } = await import('${module}');
      const loaded = () => readFileSync('/proc/self/maps', 'utf8').includes('koffi');
      const before = loaded();
      console.log(before, nativeCalls() !== undefined && loaded());`;
    expect(run(code, {}).stdout).toBe(`false ${native !== undefined}\n`);
  });

  it.skipIf(!native)('works in a process that has loaded another copy of it', async () => {
    vi.resetModules();
    const fd = file('copies', 'x'.repeat(4096));
    await native?.copyFileRange(fd, 0, 4096, fd, 4096);
    const other = await import('../../../src/native/native.js');
    expect(other.nativeCalls).not.toBe(nativeCalls);
    expect(other.nativeUnavailableReason()).toBeUndefined();
  });

  it('has a reason exactly when there are no calls', () => {
    expect(nativeUnavailableReason() === undefined).toBe(native !== undefined);
  });
});

describe('errno', () => {
  it('has the names of Node', () => {
    expect(errnoName(Errno.EXDEV)).toBe('EXDEV');
    expect(errnoName(9999)).toBe('errno 9999');
    expect(errnoError(Errno.ENOSPC, 'copy_file_range')).toMatchObject({
      code: 'ENOSPC',
      syscall: 'copy_file_range',
    });
  });
});
