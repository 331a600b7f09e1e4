/**
 * Free space of FAT and exFAT against dosfstools, mtools and exfatprogs: the same number of clusters, and
 * after everything free was overwritten the checkers are content and all files are still whole.
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { exfatFreeSpace } from '../../src/guestfs/exfat/free-space.js';
import { fatFreeSpace } from '../../src/guestfs/fat/free-space.js';
import type { FreeSpaceReader } from '../../src/guestfs/free-space.js';
import { fileReader, freeRangesOf, wholeVolume } from '../support/guest-disk.js';
import { fillWithHoles, hashesOf, overwrite, sparseFile } from '../support/guest-tree.js';
import { loopDevice } from '../support/mounts.js';
import { canLoop, fuse, lacking } from '../support/requires.js';
import { must, run } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

const MIB = 1024 * 1024;

function freeRanges(reader: FreeSpaceReader, image: string): Promise<[number, number][]> {
  return fileReader(image, (read, size) => freeRangesOf(reader(read, wholeVolume(size))));
}

function statusOf(reader: FreeSpaceReader, image: string): Promise<string> {
  return fileReader(image, async (read, size) => {
    const answer = await reader(read, wholeVolume(size));
    return answer.status === 'kept' ? answer.reason : answer.status;
  });
}

const bytesOf = (ranges: readonly [number, number][]): number =>
  ranges.reduce((sum, [, length]) => sum + length, 0);

const lacks = lacking('mkfs.fat', 'fsck.fat', 'mcopy');

/** Free bytes by fsck.fat's counts, which must find nothing wrong. */
async function freeByFsck(image: string): Promise<number> {
  const { stdout } = await must('fsck.fat', ['-nv', image]);
  const [, used, all] = /(\d+)\/(\d+) clusters/.exec(stdout) ?? [];
  const cluster = /(\d+) bytes per cluster/.exec(stdout)?.[1];
  return (Number(all) - Number(used)) * Number(cluster);
}

interface Mix {
  name: string;
  kib: number;
  args: string[];
  files: number;
  largest: number;
}

const FAT_MIXES: Mix[] = [
  { name: 'a floppy', kib: 1440, args: [], files: 40, largest: 30_000 },
  { name: 'FAT12', kib: 4096, args: ['-F', '12'], files: 60, largest: 50_000 },
  {
    name: 'FAT12 without aligning',
    kib: 7000,
    args: ['-F', '12', '-a', '-s', '8'],
    files: 60,
    largest: 50_000,
  },
  { name: 'FAT16', kib: 40_000, args: ['-F', '16'], files: 120, largest: 200_000 },
  {
    name: 'FAT16, sectors of 4 KiB',
    kib: 60_000,
    args: ['-F', '16', '-S', '4096', '-s', '1'],
    files: 120,
    largest: 200_000,
  },
  {
    name: 'FAT16, one table',
    kib: 20_000,
    args: ['-F', '16', '-f', '1', '-r', '1024'],
    files: 80,
    largest: 90_000,
  },
  { name: 'FAT32', kib: 80_000, args: ['-F', '32', '-s', '1'], files: 150, largest: 300_000 },
  {
    name: 'FAT32, sectors of 4 KiB',
    kib: 280_000,
    args: ['-F', '32', '-S', '4096'],
    files: 150,
    largest: 300_000,
  },
];

describe.skipIf(lacks)(`free space of FAT${lacks}`, () => {
  it.each(FAT_MIXES)('$name', async ({ kib, args, files, largest }) => {
    const folder = testFolder('fat');
    const [image, tree, back] = ['image', 'tree', 'back'].map((name) => path.join(folder, name));
    if (!image || !tree || !back) throw new Error('no names');
    sparseFile(image, kib * 1024);
    await must('mkfs.fat', [...args, image]);
    expect(bytesOf(await freeRanges(fatFreeSpace, image))).toBe(await freeByFsck(image));
    // mtools copies a tree at once, so that holes come from deleting what lies between.
    mkdirSync(tree);
    fillWithHoles(tree, files, largest);
    const victims = path.join(folder, 'victims');
    mkdirSync(victims);
    fillWithHoles(victims, Math.floor(files / 4), largest);
    await must('mcopy', ['-i', image, '-s', victims, '::/victims']);
    await must('mcopy', ['-i', image, '-s', tree, '::/tree']);
    await must('mdeltree', ['-i', image, '::/victims/sub']);
    await must('mcopy', ['-i', image, path.join(tree, 'file1'), '::/another']);
    const free = await freeRanges(fatFreeSpace, image);
    expect(free.length).toBeGreaterThan(1);
    expect(bytesOf(free)).toBe(await freeByFsck(image));
    overwrite(image, free);
    expect(bytesOf(free)).toBe(await freeByFsck(image));
    await must('mcopy', ['-i', image, '-s', '-n', '::/tree', back]);
    expect(hashesOf(back)).toEqual(hashesOf(tree));
  });

  it('marks of fsck.fat keep a volume', async () => {
    const image = path.join(testFolder('fat'), 'image');
    sparseFile(image, 20 * MIB);
    await must('mkfs.fat', ['-F', '16', image]);
    expect(await statusOf(fatFreeSpace, image)).toBe('free');
    // A copy of the table that differs is what fsck.fat repairs.
    overwrite(image, [[2048 + 700, 2]]);
    const checked = await run('fsck.fat', ['-n', image]);
    expect(checked.status).toBe(1);
    expect(await statusOf(fatFreeSpace, image)).toContain('differ');
  });
});

const lacksExfat = lacking('mkfs.exfat', 'fsck.exfat', 'dump.exfat', 'mount.exfat-fuse');
const canMountExfat = lacksExfat === '' && fuse && canLoop();
const why = lacksExfat || (canMountExfat ? '' : ' (needs root, FUSE and loop devices)');

async function freeByDump(image: string): Promise<number> {
  const { stdout } = await must('dump.exfat', [image]);
  const number = (label: string) => Number(new RegExp(`${label}:\\s+(\\d+)`).exec(stdout)?.[1]);
  return number('Free Clusters') * number('Cluster size');
}

const EXFAT_MIXES: Mix[] = [
  { name: 'clusters of 512 bytes', kib: 20_000, args: ['-c', '512'], files: 100, largest: 60_000 },
  { name: 'clusters of 4 KiB', kib: 100_000, args: ['-c', '4K'], files: 150, largest: 200_000 },
  { name: 'clusters of 128 KiB', kib: 100_000, args: ['-c', '128K'], files: 60, largest: 900_000 },
  {
    name: 'as Windows aligns it',
    kib: 60_000,
    args: ['-b', '1M', '--pack-bitmap'],
    files: 60,
    largest: 300_000,
  },
];

describe.skipIf(!canMountExfat)(`free space of exFAT${why}`, () => {
  it.each(EXFAT_MIXES)('$name', async ({ kib, args, files, largest }) => {
    const folder = testFolder('exfat');
    const image = path.join(folder, 'image');
    const mountPoint = path.join(folder, 'mnt');
    mkdirSync(mountPoint);
    sparseFile(image, kib * 1024);
    await must('mkfs.exfat', [...args, image]);
    expect(bytesOf(await freeRanges(exfatFreeSpace, image))).toBe(await freeByDump(image));
    const mounted = async <T>(readOnly: boolean, action: () => T | Promise<T>): Promise<T> => {
      const device = loopDevice(image, { readOnly });
      await must('mount.exfat-fuse', [...(readOnly ? ['-o', 'ro'] : []), device.path, mountPoint]);
      try {
        return await action();
      } finally {
        await must('umount', [mountPoint]);
        device.detach();
      }
    };
    const hashes = await mounted(false, async () => {
      fillWithHoles(mountPoint, files, largest);
      expect(await statusOf(exfatFreeSpace, image)).toContain('unmounted');
      return hashesOf(mountPoint);
    });
    const free = await freeRanges(exfatFreeSpace, image);
    expect(bytesOf(free)).toBe(await freeByDump(image));
    overwrite(image, free);
    await must('fsck.exfat', ['-n', image]);
    expect(await mounted(true, () => hashesOf(mountPoint))).toEqual(hashes);
  });
});
