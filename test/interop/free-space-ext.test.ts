/**
 * Free space of ext2/3/4 against dumpe2fs, in all mixes of features that change where things lie.
 */
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { extFreeSpace } from '../../src/guestfs/ext/free-space.js';
import { freeByDumpe2fs } from '../support/dumpe2fs.js';
import { fileReader, freeRangesOf, wholeVolume } from '../support/guest-disk.js';
import { lacking } from '../support/requires.js';
import { must } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MIB = 1024 * 1024;
const lacks = lacking('mke2fs', 'dumpe2fs', 'debugfs');

interface Mix {
  name: string;
  mib: number;
  args: string[];
}

const MIXES: Mix[] = [
  { name: 'ext2, 1 KiB blocks', mib: 40, args: ['-t', 'ext2', '-b', '1024'] },
  { name: 'ext2 of revision 0', mib: 20, args: ['-t', 'ext2', '-r', '0', '-b', '1024'] },
  {
    name: 'ext2, 2 KiB blocks, every group with a superblock',
    mib: 40,
    args: ['-t', 'ext2', '-b', '2048', '-O', '^sparse_super,^resize_inode', '-g', '4096'],
  },
  { name: 'ext2, 64 KiB blocks', mib: 64, args: ['-t', 'ext2', '-b', '65536'] },
  { name: 'ext3', mib: 300, args: ['-t', 'ext3', '-b', '4096'] },
  { name: 'ext3, 1 KiB blocks', mib: 100, args: ['-t', 'ext3', '-b', '1024'] },
  { name: 'ext4', mib: 1000, args: ['-t', 'ext4'] },
  { name: 'ext4 as WSL makes it', mib: 3000, args: ['-t', 'ext4', '-b', '4096', '-G', '4096'] },
  { name: 'ext4, 32 bits', mib: 600, args: ['-t', 'ext4', '-O', '^64bit'] },
  { name: 'ext4, 1 KiB blocks', mib: 200, args: ['-t', 'ext4', '-b', '1024'] },
  { name: 'ext4, uninit_bg', mib: 600, args: ['-t', 'ext4', '-b', '4096', '-O', '^metadata_csum,uninit_bg'] },
  {
    name: 'ext4, uninit_bg, 32 bits, 1 KiB',
    mib: 200,
    args: ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum,^64bit,uninit_bg'],
  },
  {
    name: 'ext4, no checksums',
    mib: 600,
    args: ['-t', 'ext4', '-b', '4096', '-O', '^metadata_csum,^uninit_bg'],
  },
  { name: 'ext4, no flex_bg', mib: 600, args: ['-t', 'ext4', '-b', '4096', '-O', '^flex_bg'] },
  { name: 'ext4, flex groups of one', mib: 600, args: ['-t', 'ext4', '-b', '4096', '-G', '1'] },
  {
    name: 'ext4, meta_bg',
    mib: 1000,
    args: ['-t', 'ext4', '-b', '4096', '-O', 'meta_bg,^resize_inode', '-g', '1024'],
  },
  {
    name: 'ext4, meta_bg, 1 KiB, sparse_super2',
    mib: 300,
    args: ['-t', 'ext4', '-b', '1024', '-O', 'meta_bg,^resize_inode,sparse_super2', '-g', '1024'],
  },
  {
    name: 'ext4, meta_bg, 1 KiB, no flex_bg',
    mib: 300,
    args: ['-t', 'ext4', '-b', '1024', '-O', 'meta_bg,^resize_inode,^flex_bg', '-g', '1024'],
  },
  { name: 'ext4, sparse_super2', mib: 600, args: ['-t', 'ext4', '-O', 'sparse_super2'] },
  {
    name: 'ext4, sparse_super2 with one copy',
    mib: 600,
    args: ['-t', 'ext4', '-O', 'sparse_super2,^resize_inode', '-E', 'num_backup_sb=1'],
  },
  {
    name: 'ext4, sparse_super2 without copies',
    mib: 600,
    args: ['-t', 'ext4', '-O', 'sparse_super2,^resize_inode', '-E', 'num_backup_sb=0'],
  },
  { name: 'ext4, bigalloc', mib: 2000, args: ['-t', 'ext4', '-b', '4096', '-O', 'bigalloc', '-C', '65536'] },
  {
    name: 'ext4, bigalloc, 1 KiB blocks',
    mib: 400,
    args: ['-t', 'ext4', '-b', '1024', '-O', 'bigalloc', '-C', '8192'],
  },
  {
    name: 'ext4, bigalloc, meta_bg, 1 KiB',
    mib: 400,
    args: ['-t', 'ext4', '-b', '1024', '-O', 'bigalloc,meta_bg,^resize_inode', '-C', '2048', '-g', '2048'],
  },
  { name: 'ext4, room to grow', mib: 300, args: ['-t', 'ext4', '-b', '4096', '-E', 'resize=16777216'] },
  {
    name: 'ext4, all the rest',
    mib: 400,
    args: [
      '-t',
      'ext4',
      '-b',
      '4096',
      '-O',
      'quota,project,encrypt,casefold,inline_data,ea_inode,large_dir,metadata_csum_seed,verity,orphan_file,fast_commit,stable_inodes',
      '-I',
      '512',
    ],
  },
  {
    name: 'ext4, packed metadata',
    mib: 1000,
    args: ['-t', 'ext4', '-b', '4096', '-E', 'packed_meta_blocks=1'],
  },
  { name: 'ext4, one short last group', mib: 129, args: ['-t', 'ext4', '-b', '4096'] },
];

function empty(file: string, mib: number): void {
  writeFileSync(file, '');
  truncateSync(file, mib * MIB);
}

async function expectAsDumped(image: string): Promise<void> {
  const expected = await freeByDumpe2fs(image);
  expect(expected.length).toBeGreaterThan(0);
  const found = await fileReader(image, (read, size) => freeRangesOf(extFreeSpace(read, wholeVolume(size))));
  expect(found).toEqual(expected);
}

describe.skipIf(lacks)(`free space of ext2/3/4${lacks}`, () => {
  let tree: string;

  beforeAll(() => {
    tree = makeTempFolder('tree');
    mkdirSync(path.join(tree, 'small'));
    for (let index = 0; index < 60; index += 1)
      writeFileSync(path.join(tree, 'small', `${index}`), seededBytes(1 + ((index * 977) % 9000), index));
    writeFileSync(path.join(tree, 'large'), seededBytes(9 * MIB, 1));
  });

  it.each(MIXES)('$name', async ({ mib, args }) => {
    const image = path.join(testFolder('ext'), 'image');
    empty(image, mib);
    await must('mke2fs', ['-q', '-F', ...args, '-d', tree, image]);
    // Holes in what was in one piece.
    const removed = [...Array(20).keys()].map((index) => `rm small/${index * 3}`);
    await must('debugfs', ['-w', '-f', '-', image], { input: `${removed.join('\n')}\n` });
    await expectAsDumped(image);
  });
});
