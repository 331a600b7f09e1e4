/**
 * ext2/3/4 as the kernel and e2fsprogs leave them: filled and thinned out, mounted, cut off, grown, damaged.
 */
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readFreeSpace } from '../../src/guestfs/free-space-map.js';
import { freeByDumpe2fs } from '../support/dumpe2fs.js';
import { fileReader, overwriteRanges } from '../support/guest-disk.js';
import { canMount, lacking } from '../support/requires.js';
import { must, mustSync } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { testFolder } from '../support/tmp.js';

const MIB = 1024 * 1024;
const FILES = 60;
const lacks =
  lacking('mke2fs', 'dumpe2fs', 'debugfs', 'resize2fs', 'sfdisk') ||
  (canMount('ext4') ? '' : ' (needs mounts)');

function makeImage(mib: number, args: readonly string[]): string {
  const image = path.join(testFolder('ext'), 'image');
  writeFileSync(image, '');
  truncateSync(image, mib * MIB);
  mustSync('mke2fs', ['-q', '-F', ...args, image]);
  return image;
}

const contentOf = (index: number): Buffer => seededBytes(1 + ((index * 104_729) % 300_000), index);

async function mounted(image: string, action: (folder: string) => Promise<void>): Promise<void> {
  const folder = `${image}.mnt`;
  mkdirSync(folder, { recursive: true });
  mustSync('mount', ['-o', 'loop', image, folder]);
  try {
    await action(folder);
  } finally {
    mustSync('umount', [folder]);
  }
}

/** Writes files and deletes two of three. */
function fill(folder: string): void {
  for (let index = 0; index < FILES; index += 1)
    writeFileSync(path.join(folder, `f${index}`), contentOf(index));
  for (let index = 0; index < FILES; index += 1) if (index % 3) rmSync(path.join(folder, `f${index}`));
  mustSync('sync', ['-f', folder]);
}

function patch(image: string, at: number, bytes: readonly number[]): void {
  const handle = openSync(image, 'r+');
  writeSync(handle, Uint8Array.from(bytes), 0, bytes.length, at);
  closeSync(handle);
}

interface Seen {
  verdict: string;
  reason: string | undefined;
  ranges: [number, number][];
}

async function look(image: string): Promise<Seen> {
  return fileReader(image, async (read, size) => {
    const { reports, ranges } = await readFreeSpace(read, size);
    const [report] = reports;
    const found: [number, number][] = [];
    for await (const { offset, length } of ranges()) found.push([offset, length]);
    return { verdict: `${report?.kind} ${report?.verdict}`, reason: report?.reason, ranges: found };
  });
}

async function expectAsDumped(image: string): Promise<void> {
  const seen = await look(image);
  expect(seen.reason).toBeUndefined();
  expect(seen.ranges).toEqual(await freeByDumpe2fs(image));
}

async function expectKept(image: string, reason: RegExp): Promise<void> {
  const seen = await look(image);
  expect(seen.reason ?? 'read').toMatch(reason);
  expect(seen.ranges).toEqual([]);
}

const USED: [name: string, mib: number, args: string[]][] = [
  ['ext2', 64, ['-t', 'ext2']],
  ['ext3', 64, ['-t', 'ext3']],
  ['ext4', 160, ['-t', 'ext4', '-b', '4096']],
  ['ext4 as WSL makes it', 300, ['-t', 'ext4', '-b', '4096', '-G', '4096']],
  ['ext4, uninit_bg', 100, ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum,uninit_bg']],
  ['ext4, bigalloc', 160, ['-t', 'ext4', '-b', '4096', '-O', 'bigalloc', '-C', '32768']],
  ['ext4, meta_bg', 100, ['-t', 'ext4', '-b', '1024', '-O', 'meta_bg,^resize_inode']],
  ['ext4 without journal', 100, ['-t', 'ext4', '-b', '4096', '-O', '^has_journal']],
];

describe.skipIf(lacks)(`ext2/3/4 in use${lacks}`, () => {
  it.each(USED)('%s: filled, thinned out, and kept while it is mounted', async (_name, mib, args) => {
    const image = makeImage(mib, args);
    await mounted(image, async (folder) => {
      fill(folder);
      await expectKept(image, /^not cleanly unmounted/);
    });
    await expectAsDumped(image);
    overwriteRanges(image, (await look(image)).ranges);
    await must('e2fsck', ['-fn', image]);
    await mounted(image, async (folder) => {
      for (let index = 0; index < FILES; index += 3)
        expect(readFileSync(path.join(folder, `f${index}`)).equals(contentOf(index))).toBe(true);
    });
  });

  it('grows: descriptors move on into reserved room, or into meta groups', async () => {
    const image = makeImage(64, ['-t', 'ext4', '-b', '1024', '-E', 'resize=200000']);
    for (const mib of [180, 700]) {
      truncateSync(image, mib * MIB);
      await must('e2fsck', ['-fp', image]);
      await must('resize2fs', [image]);
      await expectAsDumped(image);
    }
    await must('e2fsck', ['-fy', image]);
    await must('resize2fs', ['-M', image]);
    // Shrunk: what is behind the file system's end is nobody's.
    await expectAsDumped(image);
  });

  it('is found in a partition, at its place', async () => {
    const image = makeImage(64, ['-t', 'ext4']);
    const disk = `${image}.disk`;
    writeFileSync(disk, '');
    truncateSync(disk, 80 * MIB);
    await must('sfdisk', ['-q', disk], { input: 'label: gpt\nstart=16384, size=131072\n' });
    await must('dd', [`if=${image}`, `of=${disk}`, 'bs=1M', 'seek=8', 'conv=notrunc,sparse', 'status=none']);
    const { ranges, verdict } = await look(disk);
    expect(verdict).toBe('ext4 read');
    expect(ranges).toEqual((await freeByDumpe2fs(image)).map(([at, length]) => [at + 8 * MIB, length]));
  });
});

const DOCTORED: [reason: RegExp, commands: string[]][] = [
  [/^not cleanly unmounted: its journal has to be/, ['feature needs_recovery']],
  [/^not cleanly unmounted$/, ['ssv state 0']],
  [/^it records errors/, ['ssv state 3']],
  [/^it records errors/, ['ssv error_count 2']],
  [/^not cleanly unmounted: it has orphaned files/, ['ssv last_orphan 12']],
  [/^not cleanly unmounted: it has orphaned files/, ['feature orphan_present']],
  [/^its journal is on another device/, ['ssv journal_inum 0']],
  [/incompat 0x4000000/, ['feature FEATURE_I26']],
  [/ro_compat 0x2000000/, ['feature FEATURE_R25']],
  [/^the bitmap of group 0 has/, ['set_bg 0 free_blocks_count 5', 'set_bg 0 checksum calc']],
  [/^its groups have \d+ free blocks, its superblock says 77/, ['ssv free_blocks_count 77']],
  [/^the checksum of the descriptor of group 1/, ['set_bg 1 checksum 1']],
  [/^the copy of its superblock in group 1 differs/, ['zap_block 8193']],
  [/^the bitmap of group 0 calls its metadata/, ['freeb 1 1']],
  [/journal inode|journal/, ['set_inode_field <8> block[0] 0']],
  [/journal/, ['freei <8>', 'clri <8>']],
];

describe.skipIf(lacks)(`ext4 that must be kept${lacks}`, () => {
  it.each(DOCTORED)('%s', async (reason, commands) => {
    const image = makeImage(32, ['-t', 'ext4', '-b', '1024']);
    await expectAsDumped(image);
    await must('debugfs', ['-w', '-f', '-', image], { input: `${commands.join('\n')}\n` });
    await expectKept(image, reason);
  });

  it('has a journal on another device, or is one', async () => {
    const journal = makeImage(16, ['-O', 'journal_dev', '-b', '4096']);
    await expectKept(journal, /^it is the journal of another file system/);
  });

  it('is protected against two computers', async () => {
    const image = makeImage(64, ['-t', 'ext4', '-b', '4096', '-O', 'mmp']);
    await expectAsDumped(image);
    const block = mustSync('dumpe2fs', ['-h', image]).match(/^MMP block number: +(\d+)/m)?.[1];
    patch(image, Number(block) * 4096 + 4, [0x39, 0x30, 0, 0]);
    await expectKept(image, /^a computer has it mounted/);
  });

  it('begins with a copy of its superblock', async () => {
    const image = makeImage(32, ['-t', 'ext2', '-b', '1024']);
    patch(image, 1024 + 0x5a, [3]);
    await expectKept(image, /^its first superblock is a copy/);
  });
});
