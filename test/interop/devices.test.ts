/**
 * Block devices as source and as target. A loop device stands in for the LUN.
 */
import { truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { sha256 } from '../support/content.js';
import { convert, expectIdentical } from '../support/convert.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { loopDevice } from '../support/mounts.js';
import { canLoop, isRoot, lacking } from '../support/requires.js';
import { must, run } from '../support/run.js';
import { checkPartition, makeSampleDisk, SAMPLE_DISK_TOOLS, seededBytes } from '../support/sample-disk.js';
import { testFolder } from '../support/tmp.js';

const lacks =
  lacking(...SAMPLE_DISK_TOOLS, 'e2fsck') ||
  (canLoop() ? '' : ` (no loop devices${isRoot ? '' : ', needs root'})`);
const MIB = 1024 * 1024;

/** A block device over a file of its own, detached when the test ends. */
function device(file: string): string {
  const loop = loopDevice(file);
  onTestFinished(() => loop.detach());
  return loop.path;
}

/** So that storage is read, not memory. Containers may refuse it: then memory is what is compared. */
async function dropCache(target: string): Promise<void> {
  await run('blockdev', ['--flushbufs', target]);
}

describe.skipIf(lacks)(`block devices${lacks}`, () => {
  it('as source: the device is a raw disk', async () => {
    const folder = testFolder();
    const disk = await makeSampleDisk(path.join(folder, 'disk.raw'));
    const source = device(disk.path);
    expect(await vhdkitJson(['info', source])).toMatchObject({ format: 'raw', virtualSize: disk.size });
    const image = path.join(folder, 'disk.vhdx');
    await convert(source, image);
    await convert(image, path.join(folder, 'back.raw'));
    await expectIdentical(disk.path, path.join(folder, 'back.raw'));
  });

  it('as target: the disk replaces the garbage that was there, zeros included', async () => {
    const folder = testFolder();
    const disk = await makeSampleDisk(path.join(folder, 'disk.raw'));
    const image = path.join(folder, 'disk.vhdx');
    await convert(disk.path, image);
    const backing = path.join(folder, 'backing');
    writeFileSync(backing, seededBytes(disk.size, 123));
    const target = device(backing);
    await convert(image, target, ['-O', 'raw', '--force']);
    await dropCache(target);
    await expectIdentical(disk.path, target);
    await checkPartition(target, disk.partition);
  });

  it('as target: what lies behind the end of the disk stays', async () => {
    const folder = testFolder();
    const disk = await makeSampleDisk(path.join(folder, 'disk.raw'), { sizeMiB: 16, payloadMiB: 1 });
    const backing = path.join(folder, 'backing');
    const garbage = seededBytes(disk.size + MIB, 7);
    writeFileSync(backing, garbage);
    const target = device(backing);
    await convert(disk.path, target, ['-O', 'raw', '--force']);
    await dropCache(target);
    const tail = await must('dd', [`if=${target}`, 'bs=1M', 'skip=16', 'status=none']);
    expect(tail.output.equals(garbage.subarray(disk.size))).toBe(true);
    await must('cmp', ['-n', String(disk.size), disk.path, target]);
  });

  it('as target, needs --force and is untouched without it', async () => {
    const folder = testFolder();
    const disk = await makeSampleDisk(path.join(folder, 'disk.raw'), { sizeMiB: 16, payloadMiB: 1 });
    const backing = path.join(folder, 'backing');
    writeFileSync(backing, seededBytes(disk.size, 9));
    const before = await sha256(backing);
    const result = await vhdkit(['convert', disk.path, device(backing), '-O', 'raw']);
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/--force/);
    expect(await sha256(backing)).toBe(before);
  });

  it('that are too small are refused before anything is written', async () => {
    const folder = testFolder();
    const disk = await makeSampleDisk(path.join(folder, 'disk.raw'), { sizeMiB: 16, payloadMiB: 1 });
    const backing = path.join(folder, 'backing');
    writeFileSync(backing, seededBytes(15 * MIB, 11));
    const before = await sha256(backing);
    const args = ['convert', disk.path, device(backing), '-O', 'raw', '--force', '--json'];
    const result = await vhdkit(args);
    expect(result.status).toBe(1);
    const { error } = JSON.parse(result.stdout) as { error: { code: string } };
    expect(error.code).toBe('TARGET_TOO_SMALL');
    expect(await sha256(backing)).toBe(before);
  });
});

describe('large sparse disks', () => {
  it('of 2 TiB become a sparse raw file in seconds, and memory stays flat', async () => {
    const folder = testFolder();
    const image = path.join(folder, 'large.vhdx');
    const created = await vhdkit(['create', image, '2T']);
    expect(created.status, created.stderr).toBe(0);
    const raw = path.join(folder, 'large.raw');
    const started = performance.now();
    const report = await convert(image, raw);
    expect(report.virtualSize).toBe(2 * 1024 ** 4);
    expect(report.bytes).toEqual({ shared: 0, kernelCopied: 0, buffered: 0, zeroed: 2 * 1024 ** 4 });
    // Reading 2 TiB would take many minutes on any machine: this bound tells the two apart, no more.
    expect(performance.now() - started).toBeLessThan(30_000);
    expect(await vhdkitJson(['info', raw])).toMatchObject({ virtualSize: 2 * 1024 ** 4, allocatedBytes: 0 });
  });

  it('of 2 TiB keep a few bytes at their far end', async () => {
    const folder = testFolder();
    const raw = path.join(folder, 'source.raw');
    writeFileSync(raw, '');
    truncateSync(raw, 2 * 1024 ** 4);
    const tail = path.join(folder, 'tail');
    writeFileSync(tail, seededBytes(4096, 3));
    const seek = String((2 * 1024 ** 4 - 4096) / 4096);
    await must('dd', [`if=${tail}`, `of=${raw}`, 'bs=4096', `seek=${seek}`, 'conv=notrunc', 'status=none']);
    const image = path.join(folder, 'image.vhdx');
    await convert(raw, image);
    const read = await vhdkit(['read', image, '--offset', String(2 * 1024 ** 4 - 4096)]);
    expect(read.status, read.stderr).toBe(0);
    expect(read.output.equals(seededBytes(4096, 3))).toBe(true);
  });
});
