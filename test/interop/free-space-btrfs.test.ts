/**
 * Free space of btrfs against what btrfs-progs lists, and against btrfs itself after all of it was
 * overwritten.
 */
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32c } from '../../src/base/crc32c.js';
import { btrfsFreeSpace } from '../../src/guestfs/btrfs/free-space.js';
import { readFreeSpace } from '../../src/guestfs/free-space-map.js';
import { reasonOf } from '../../src/guestfs/inconsistent.js';
import type { ReadBytes } from '../../src/guestfs/partition-table.js';
import {
  bufferReader,
  fileReader,
  freeRangesOf,
  overwriteRanges,
  wholeVolume,
} from '../support/guest-disk.js';
import { canMount, lacking } from '../support/requires.js';
import { must, mustSync } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { testFolder } from '../support/tmp.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const FILES = 60;
/** Of superblocks, and of tree blocks where they are damaged. */
const BLOCK = 4 * KIB;
const RUNS = Number(process.env.VHDKIT_FUZZ_RUNS ?? 300);
const lacks = lacking('mkfs.btrfs', 'btrfs') || (canMount('btrfs') ? '' : ' (needs mounts)');

type Ranges = [offset: number, length: number][];

const MIXES: [name: string, args: string[]][] = [
  ['as made by default', []],
  ['data twice', ['-d', 'dup']],
  ['tree blocks of 4 KiB', ['-n', '4096']],
  ['mixed groups', ['-M']],
  ['without skinny metadata', ['-O', '^skinny-metadata']],
  ['without free-space tree', ['-R', '^free-space-tree']],
];

function makeImage(args: readonly string[]): string {
  const image = path.join(testFolder('btrfs'), 'image');
  writeFileSync(image, '');
  truncateSync(image, 320 * MIB);
  mustSync('mkfs.btrfs', ['-q', '-f', ...args, image]);
  return image;
}

const contentOf = (index: number): Buffer => seededBytes(1 + ((index * 104_729) % 300_000), index);

function mounted(image: string, action: (folder: string) => void): void {
  const folder = `${image}.mnt`;
  mkdirSync(folder, { recursive: true });
  mustSync('mount', ['-t', 'btrfs', '-o', 'loop', image, folder]);
  try {
    action(folder);
  } finally {
    mustSync('umount', [folder]);
  }
}

/** Writes files, keeps every third; a snapshot keeps some of the others alive. */
function fill(folder: string): void {
  for (let index = 0; index < FILES; index += 1)
    writeFileSync(path.join(folder, `f${index}`), contentOf(index));
  mustSync('sync', ['-f', folder]);
  for (let index = 0; index < FILES / 2; index += 1) if (index % 3) rmSync(path.join(folder, `f${index}`));
  mustSync('btrfs', ['-q', 'subvolume', 'snapshot', '-r', folder, path.join(folder, 'snap')]);
  for (let index = 0; index < FILES; index += 1)
    if (index % 3) rmSync(path.join(folder, `f${index}`), { force: true });
  mustSync('sync', ['-f', folder]);
}

/** `ranges` without `[from, to)`. */
function without(ranges: Ranges, from: number, to: number): Ranges {
  return ranges.flatMap(([offset, length]): Ranges => {
    const end = offset + length;
    if (end <= from || offset >= to) return [[offset, length]];
    const parts: Ranges = [
      [offset, from - offset],
      [to, end - to],
    ];
    return parts.filter(([, rest]) => rest > 0);
  });
}

/** What no chunk, no extent and no superblock has, by the trees that btrfs-progs prints. */
function freeByDump(image: string): Ranges {
  const dump = (tree: string): string =>
    mustSync('btrfs', ['inspect-internal', 'dump-tree', '-t', tree, image]);
  const nodeSize = Number(
    /^nodesize\s+(\d+)/m.exec(mustSync('btrfs', ['inspect-internal', 'dump-super', image]))?.[1],
  );
  const extents = [...dump('extent').matchAll(/key \((\d+) (EXTENT|METADATA)_ITEM (\d+)\)/g)].map(
    ([, at, kind, length]): [number, number] => [Number(at), kind === 'EXTENT' ? Number(length) : nodeSize],
  );
  let free: Ranges = [[MIB, 319 * MIB]];
  const chunks = dump('chunk')
    .split(/key \(FIRST_CHUNK_TREE CHUNK_ITEM /)
    .slice(1);
  for (const chunk of chunks) {
    const logical = Number.parseInt(chunk, 10);
    const length = Number(/length (\d+)/.exec(chunk)?.[1]);
    for (const [, offset] of chunk.matchAll(/stripe \d+ devid 1 offset (\d+)/g))
      for (const [at, size] of extents)
        if (at >= logical && at < logical + length) {
          const place = Number(offset) + at - logical;
          free = without(free, place, place + size);
        }
  }
  return without(free, 64 * MIB, 64 * MIB + 64 * KIB);
}

async function freeIn(image: string): Promise<Ranges> {
  return fileReader(image, (read, size) => freeRangesOf(btrfsFreeSpace(read, wholeVolume(size))));
}

async function reasonFor(image: string): Promise<string | undefined> {
  return fileReader(image, async (read, size) => (await readFreeSpace(read, size)).reports[0]?.reason);
}

describe.skipIf(lacks)(`free space of btrfs${lacks}`, () => {
  it.each(MIXES)('%s', async (_name, args) => {
    const image = makeImage(args);
    expect(await freeIn(image)).toEqual(freeByDump(image));
    mounted(image, fill);
    const free = await freeIn(image);
    expect(free).toEqual(freeByDump(image));
    overwriteRanges(image, free);
    await must('btrfs', ['check', '--readonly', '--check-data-csum', image]);
    mounted(image, (folder) => {
      for (let index = 0; index < FILES; index += 1) {
        const name = index % 3 === 0 ? `f${index}` : `snap/f${index}`;
        if (index % 3 !== 0 && index < FILES / 2) continue;
        expect(readFileSync(path.join(folder, name)).equals(contentOf(index)), name).toBe(true);
      }
    });
  });

  it('stays when there is something to replay', async () => {
    const image = makeImage([]);
    const cut = `${image}.cut`;
    mounted(image, (folder) => {
      mustSync('sync', ['-f', folder]);
      const handle = openSync(path.join(folder, 'file'), 'w');
      writeSync(handle, seededBytes(100_000, 1));
      fsyncSync(handle);
      closeSync(handle);
      copyFileSync(image, cut);
    });
    expect(await reasonFor(cut)).toBe('not cleanly unmounted: its log has to be replayed first');
    expect(await reasonFor(image)).toBeUndefined();
  });

  it('spans no second device', async () => {
    const image = makeImage([]);
    writeFileSync(`${image}2`, '');
    truncateSync(`${image}2`, 320 * MIB);
    mustSync('mkfs.btrfs', ['-q', '-f', image, `${image}2`]);
    expect(await reasonFor(image)).toBe('it spans several devices');
  });

  it.each([
    ['damage loses nothing', false],
    ['lies with right checksums stay inside the volume', true],
  ])('%s', async (_name, sealed) => {
    const image = makeImage(['-m', 'single', '-n', '4096']);
    mounted(image, fill);
    const bytes = readFileSync(image);
    const volume = wholeVolume(bytes.length);
    // Superblocks and tree blocks: all that the reader looks at.
    const blocks = new Set<number>();
    const recording: ReadBytes = async (offset, length) => {
      blocks.add(offset);
      return bytes.subarray(offset, offset + length);
    };
    const intact = await freeRangesOf(btrfsFreeSpace(recording, volume));
    const damaged = async (): Promise<Ranges | undefined> => {
      const answer = await btrfsFreeSpace(bufferReader(bytes), volume);
      return answer.status === 'free' ? freeRangesOf(Promise.resolve(answer)) : undefined;
    };
    const edit = fc.tuple(
      fc.constantFrom(...blocks),
      fc.oneof({ weight: 3, arbitrary: fc.nat(63) }, fc.nat(1023)),
      fc.oneof(fc.nat(255), fc.nat(2 ** 31 - 1), fc.constantFrom(...blocks)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 3 }), async (edits) => {
        const before = edits.map(([block]) => Buffer.from(bytes.subarray(block, block + BLOCK)));
        for (const [block, word, value] of edits) bytes.writeUInt32LE(value, block + word * 4);
        if (sealed)
          for (const [block] of edits)
            bytes.writeUInt32LE(crc32c(bytes.subarray(block + 32, block + BLOCK)), block);
        try {
          const ranges = (await damaged()) ?? [];
          if (!sealed && ranges.length > 0) expect(ranges).toEqual(intact);
          let end = MIB;
          for (const [offset, length] of ranges) {
            expect(offset).toBeGreaterThanOrEqual(end);
            end = offset + length;
          }
          expect(end).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          if (reasonOf(error) === undefined) throw error;
        } finally {
          for (const [index, [block]] of edits.entries()) before[index]?.copy(bytes, block);
        }
      }),
      { seed: 31, numRuns: RUNS },
    );
  });
});
