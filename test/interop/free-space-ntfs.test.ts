/**
 * Free space of NTFS against ntfs-3g's tools: the same clusters as $Bitmap has when they read it, and
 * after everything free was overwritten all files are still whole.
 */
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ntfsFreeSpace } from '../../src/guestfs/ntfs/free-space.js';
import { fileReader, freeRangesOf, wholeVolume } from '../support/guest-disk.js';
import { fillWithHoles, hashesOf, overwrite, sparseFile } from '../support/guest-tree.js';
import { fuse, lacking } from '../support/requires.js';
import { must, run } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { specimen } from '../support/specimens.js';
import { testFolder } from '../support/tmp.js';

const MIB = 1024 * 1024;
const lacks = lacking('mkntfs', 'ntfs-3g', 'ntfsinfo', 'ntfscat', 'ntfsfix', 'ntfsresize');
const lacksMount = lacks || (fuse ? '' : ' (needs root and FUSE)');

function freeRanges(image: string): Promise<[number, number][]> {
  return fileReader(image, (read, size) => freeRangesOf(ntfsFreeSpace(read, wholeVolume(size))));
}

function reasonFor(image: string): Promise<unknown> {
  return fileReader(image, async (read, size) => {
    const answer = await ntfsFreeSpace(read, wholeVolume(size));
    return answer.status === 'kept' ? answer.reason : answer.status;
  });
}

/** Free clusters as ntfs-3g reads $Bitmap, in bytes, joined; their number must be what ntfsinfo says. */
async function freeByNtfs3g(image: string): Promise<[number, number][]> {
  const { stdout } = await must('ntfsinfo', ['-m', image]);
  const number = (label: string) => Number(new RegExp(`${label}: (\\d+)`).exec(stdout)?.[1]);
  const cluster = number('Cluster Size');
  const { output } = await must('ntfscat', ['-i', '6', image]);
  const ranges: [number, number][] = [];
  let free = 0;
  for (let index = 0; index < number('Volume Size in Clusters'); index += 1) {
    if (((output[index >> 3] ?? 0) >> (index & 7)) & 1) continue;
    free += 1;
    const last = ranges.at(-1);
    if (last && last[0] + last[1] === index * cluster) last[1] += cluster;
    else ranges.push([index * cluster, cluster]);
  }
  expect(free).toBe(number('Free Clusters'));
  return ranges;
}

/** Runs something while the volume is mounted. */
async function mounted<T>(image: string, action: (folder: string) => T, options: string[] = []): Promise<T> {
  const folder = path.join(path.dirname(image), 'mnt');
  mkdirSync(folder, { recursive: true });
  await must('ntfs-3g', [...options, image, folder]);
  try {
    return action(folder);
  } finally {
    await must('umount', [folder]);
  }
}

/** Fills the volume, frees every other small file, and lets $MFT grow into the holes. */
function fragmentTable(folder: string): string[] {
  const until = (limit: number, write: (index: number) => void): number => {
    for (let index = 0; index < limit; index += 1) {
      try {
        write(index);
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC');
        return index;
      }
    }
    return limit;
  };
  const full = until(9999, (index) =>
    writeFileSync(path.join(folder, `a${index}`), seededBytes(3000, index)),
  );
  for (let index = 0; index < full; index += 2) rmSync(path.join(folder, `a${index}`));
  until(9999, (index) => writeFileSync(path.join(folder, `b${index}`), `${index}`));
  for (let index = 0; index < full; index += 7) rmSync(path.join(folder, `a${index}`), { force: true });
  return hashesOf(folder);
}

interface Mix {
  name: string;
  mib: number;
  args: string[];
  files: number;
  largest: number;
}

const MIXES: Mix[] = [
  { name: 'clusters of 512 bytes', mib: 40, args: ['-c', '512'], files: 400, largest: 40_000 },
  { name: 'clusters of 4 KiB', mib: 100, args: ['-c', '4096'], files: 250, largest: 100_000 },
  { name: 'sectors of 4 KiB', mib: 100, args: ['-s', '4096', '-c', '4096'], files: 200, largest: 100_000 },
  { name: 'sectors of 2 KiB', mib: 100, args: ['-s', '2048', '-c', '8192'], files: 200, largest: 100_000 },
  { name: 'clusters of 64 KiB', mib: 120, args: ['-c', '65536'], files: 100, largest: 400_000 },
  { name: 'clusters of 256 KiB', mib: 150, args: ['-c', '262144'], files: 60, largest: 600_000 },
];

describe.skipIf(lacksMount)(`free space of NTFS${lacksMount}`, () => {
  it.each(MIXES)('$name', async ({ mib, args, files, largest }) => {
    const image = path.join(testFolder('ntfs'), 'image');
    sparseFile(image, mib * MIB);
    await must('mkntfs', ['-q', '-F', '-Q', ...args, image]);
    expect(await freeRanges(image)).toEqual(await freeByNtfs3g(image));
    const hashes = await mounted(image, (folder) => {
      fillWithHoles(folder, files, largest);
      return hashesOf(folder);
    });
    const free = await freeRanges(image);
    expect(free).toEqual(await freeByNtfs3g(image));
    expect(free.length).toBeGreaterThan(10);
    overwrite(image, free);
    await must('ntfsfix', ['-n', image]);
    await must('ntfsresize', ['--info', '--force', '--no-progress-bar', image]);
    expect(await mounted(image, hashesOf, ['-o', 'ro'])).toEqual(hashes);
  });

  it('a table in many pieces, with an attribute list', async () => {
    const image = path.join(testFolder('ntfs'), 'image');
    sparseFile(image, 10 * MIB);
    await must('mkntfs', ['-q', '-F', '-Q', '-c', '512', '-z', '1', image]);
    const hashes = await mounted(image, fragmentTable);
    const records = await must('ntfsinfo', ['-i', '0', image]);
    expect(records.stdout).toContain('ATTRIBUTE_LIST');
    const free = await freeRanges(image);
    expect(free).toEqual(await freeByNtfs3g(image));
    overwrite(image, free);
    expect(await mounted(image, hashesOf, ['-o', 'ro'])).toEqual(hashes);
  });
});

describe.skipIf(lacks)(`an NTFS volume that is kept${lacks}`, () => {
  it('marked dirty, until that is taken back', async () => {
    const image = path.join(testFolder('ntfs'), 'image');
    sparseFile(image, 20 * MIB);
    await must('mkntfs', ['-q', '-F', '-Q', image]);
    await must('ntfsfix', [image]);
    expect(await reasonFor(image)).toContain('dirty');
    await must('ntfsfix', ['-d', image]);
    expect(await reasonFor(image)).toBe('free');
    truncateSync(image, 10 * MIB);
    expect(await reasonFor(image)).toContain('larger than its partition');
  });
});

const windows = lacks ? undefined : specimen('win10-dynamic.vhdx');
describe.skipIf(!windows)(`a volume that Windows made${windows ? '' : ' (needs a specimen)'}`, () => {
  it('is read as ntfs-3g reads it', async () => {
    const folder = testFolder('ntfs');
    const [disk, image] = [path.join(folder, 'disk'), path.join(folder, 'image')];
    await must('qemu-img', ['convert', '-O', 'raw', windows ?? '', disk]);
    const first = readFileSync(disk).readUInt32LE(446 + 8) * 512;
    const count = readFileSync(disk).readUInt32LE(446 + 12) * 512;
    await must('dd', [`if=${disk}`, `of=${image}`, 'bs=512', `skip=${first / 512}`, `count=${count / 512}`]);
    const free = await freeRanges(image);
    expect(free.length).toBeGreaterThan(0);
    expect(free).toEqual(await freeByNtfs3g(image));
    const checked = await run('ntfsresize', ['--info', '--force', '--no-progress-bar', image]);
    expect(checked.stdout).toContain('Accounting clusters');
  });
});
