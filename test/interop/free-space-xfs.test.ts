/**
 * Free space of XFS against xfs_db, new, used by the kernel, cut off, grown and damaged.
 */
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readFreeSpace } from '../../src/guestfs/free-space-map.js';
import { xfsFreeSpace } from '../../src/guestfs/xfs/free-space.js';
import { fileReader, freeRangesOf, overwriteRanges, wholeVolume } from '../support/guest-disk.js';
import { canMount, lacking } from '../support/requires.js';
import { must, mustSync } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { testFolder } from '../support/tmp.js';

const MIB = 1024 * 1024;
const FILES = 60;
/** Enough for trees of more than one level in small blocks. */
const SMALL = 1500;
const lacks = lacking('mkfs.xfs', 'xfs_db') || (canMount('xfs') ? '' : ' (needs mounts)');

const MIXES: [name: string, mib: number, args: string[]][] = [
  ['version 5', 320, []],
  ['version 5 with reverse mappings', 320, ['-m', 'rmapbt=1']],
  ['version 5, blocks of 1 KiB', 320, ['-b', 'size=1024']],
  ['version 5, sectors of 4 KiB', 320, ['-s', 'size=4096']],
  ['version 5, uneven groups, log with stripes', 640, ['-d', 'agcount=7', '-l', 'su=32k,size=66m']],
];

/** Kernels of today do not mount these. */
const OLD: typeof MIXES = [
  ['version 4', 320, ['-m', 'crc=0']],
  ['version 4, blocks of 512 bytes', 320, ['-m', 'crc=0', '-b', 'size=512']],
];

function makeImage(mib: number, args: readonly string[]): string {
  const image = path.join(testFolder('xfs'), 'image');
  writeFileSync(image, '');
  truncateSync(image, mib * MIB);
  mustSync('mkfs.xfs', ['-q', '-f', ...args, image]);
  return image;
}

function number(text: string, name: string): number {
  return Number(new RegExp(`^${name} = (\\d+)`, 'm').exec(text)?.[1]);
}

/** What xfs_db lists as free, without the blocks that are kept for the trees. */
function freeByXfsDb(image: string): [number, number][] {
  const db = (...commands: string[]) =>
    mustSync('xfs_db', ['-r', ...commands.flatMap((c) => ['-c', c]), image]);
  const sb = db('sb 0', 'p');
  const [blockSize, agblocks, agcount] = ['blocksize', 'agblocks', 'agcount'].map((name) =>
    number(sb, name),
  ) as [number, number, number];
  const reserved = new Set<string>();
  for (let group = 0; group < agcount; group += 1) {
    const agf = db(`agf ${group}`, 'p');
    const [first, count] = [number(agf, 'flfirst'), number(agf, 'flcount')];
    const entries = [...db(`agfl ${group}`, 'p').matchAll(/(\d+):(\d+|null)/g)].map(([, , block]) => block);
    for (let index = 0; index < count; index += 1)
      reserved.add(`${group} ${entries[(first + index) % entries.length]} 1`);
  }
  const extents = [...db('freesp -d').matchAll(/^ +(\d+) +(\d+) +(\d+) *$/gm)].map((match) =>
    match.slice(1, 4),
  );
  return extents
    .filter((extent) => !reserved.delete(extent.join(' ')))
    .map((extent) => extent.map(Number) as [number, number, number])
    .map(([group, block, count]): [number, number] => [
      (group * agblocks + block) * blockSize,
      count * blockSize,
    ])
    .sort((a, b) => a[0] - b[0]);
}

async function freeIn(image: string): Promise<[number, number][]> {
  return fileReader(image, (read, size) => freeRangesOf(xfsFreeSpace(read, wholeVolume(size))));
}

async function reasonFor(image: string): Promise<string | undefined> {
  return fileReader(image, async (read, size) => (await readFreeSpace(read, size)).reports[0]?.reason);
}

const contentOf = (index: number): Buffer => seededBytes(1 + ((index * 104_729) % 300_000), index);

async function mounted(image: string, action: (folder: string) => Promise<void>): Promise<void> {
  const folder = `${image}.mnt`;
  mkdirSync(folder, { recursive: true });
  mustSync('mount', ['-t', 'xfs', '-o', 'loop', image, folder]);
  try {
    await action(folder);
  } finally {
    mustSync('umount', [folder]);
  }
}

/** Writes files and deletes two of three; then many small ones, and every other of them. */
function fill(folder: string): void {
  const name = (index: number): string => path.join(folder, `f${index}`);
  for (let index = 0; index < FILES; index += 1) writeFileSync(name(index), contentOf(index));
  for (let index = 0; index < FILES; index += 1) if (index % 3) rmSync(name(index));
  mustSync('sync', ['-f', folder]);
  for (let index = FILES; index < SMALL; index += 1) writeFileSync(name(index), 'small');
  mustSync('sync', ['-f', folder]);
  for (let index = FILES; index < SMALL; index += 2) rmSync(name(index));
  mustSync('sync', ['-f', folder]);
}

describe.skipIf(lacks)(`free space of XFS${lacks}`, () => {
  it.each(MIXES)('%s', async (_name, mib, args) => {
    const image = makeImage(mib, args);
    expect(await freeIn(image)).toEqual(freeByXfsDb(image));
    await mounted(image, async (folder) => {
      fill(folder);
      expect(await reasonFor(image)).toMatch(/^not cleanly unmounted/);
    });
    const free = await freeIn(image);
    expect(free).toEqual(freeByXfsDb(image));
    overwriteRanges(image, free);
    await must('xfs_repair', ['-n', image]);
    await mounted(image, async (folder) => {
      for (let index = 0; index < FILES; index += 3)
        expect(readFileSync(path.join(folder, `f${index}`)).equals(contentOf(index))).toBe(true);
    });
  });

  it.each(OLD)('%s', async (_name, mib, args) => {
    const content = path.join(testFolder('xfs'), 'content');
    writeFileSync(content, seededBytes(300_000, 1));
    const files = Array.from({ length: 20 }, (_, index) => `f${index} ---644 0 0 ${content}`);
    writeFileSync(`${content}.proto`, ['boot', '0 0', 'd--755 0 0', ...files, '$', ''].join('\n'));
    const image = makeImage(mib, [...args, '-p', `${content}.proto`]);
    expect(await freeIn(image)).toEqual(freeByXfsDb(image));
  });
});
