/**
 * Damaged XFS: what the intact file system uses is never called free, with checksums and without.
 */
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { reasonOf } from '../../src/guestfs/inconsistent.js';
import { xfsFreeSpace } from '../../src/guestfs/xfs/free-space.js';
import { bufferReader, freeRangesOf, wholeVolume } from '../support/guest-disk.js';
import { canMount, lacking } from '../support/requires.js';
import { mustSync } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder } from '../support/tmp.js';

const MIB = 1024 * 1024;
const BLOCK = 4096;
const RUNS = Number(process.env.VHDKIT_FUZZ_RUNS ?? 500);
/** mkfs.xfs makes file systems so small only when asked like this. */
const MKFS = ['-q', '-f', '--unsupported', '-l', 'size=6m'];
const lacks = lacking('mkfs.xfs', 'xfs_db') || (canMount('xfs') ? '' : ' (needs mounts)');

function emptyImage(args: readonly string[]): string {
  const image = path.join(makeTempFolder('xfs-damage'), 'image');
  writeFileSync(image, '');
  truncateSync(image, 64 * MIB);
  mustSync('mkfs.xfs', [...MKFS, ...args, image]);
  return image;
}

function oldImage(): string {
  const content = path.join(makeTempFolder('xfs-damage'), 'content');
  writeFileSync(content, seededBytes(70_000, 1));
  const files = Array.from({ length: 30 }, (_, index) => `f${index} ---644 0 0 ${content}`);
  writeFileSync(`${content}.proto`, ['boot', '0 0', 'd--755 0 0', ...files, '$', ''].join('\n'));
  return emptyImage(['-m', 'crc=0', '-p', `${content}.proto`]);
}

function usedImage(): string {
  const image = emptyImage([]);
  const folder = `${image}.mnt`;
  mkdirSync(folder);
  mustSync('mount', ['-t', 'xfs', '-o', 'loop', image, folder]);
  try {
    for (let index = 0; index < 60; index += 1)
      writeFileSync(path.join(folder, `f${index}`), seededBytes(1 + ((index * 104_729) % 200_000), index));
    mustSync('sync', ['-f', folder]);
    for (let index = 0; index < 60; index += 2) rmSync(path.join(folder, `f${index}`));
  } finally {
    mustSync('umount', [folder]);
  }
  return image;
}

interface Sample {
  bytes: Buffer;
  /** Where the structures lie that are read. */
  areas: Buffer[];
  /** By block: 1 is in use. */
  used: Uint8Array;
}

async function makeSample(image: string): Promise<Sample> {
  const bytes = readFileSync(image);
  const used = new Uint8Array(bytes.length / BLOCK).fill(1);
  for (const [offset, length] of await freeRangesOf(
    xfsFreeSpace(bufferReader(bytes), wholeVolume(bytes.length)),
  ))
    used.fill(0, offset / BLOCK, (offset + length) / BLOCK);
  const groupBytes = bytes.readUInt32BE(84) * BLOCK;
  const areas: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += groupBytes) {
    areas.push(bytes.subarray(at, at + 260));
    areas.push(bytes.subarray(at + 512, at + 512 + 224), bytes.subarray(at + 1024, at + 1024 + 340));
    areas.push(bytes.subarray(at + 1536, at + 1536 + 64));
    for (const field of [16, 20]) {
      const tree = at + bytes.readUInt32BE(at + 512 + field) * BLOCK;
      areas.push(bytes.subarray(tree, tree + 256));
    }
  }
  return { bytes, areas, used };
}

interface Edit {
  area: number;
  at: number;
  bytes: number[];
}

/** Overwrites in fields: numbers that could stand there, single bits, small changes, other fields' values. */
function edits({ areas }: Sample): fc.Arbitrary<Edit[]> {
  const u32 = (value: number): number[] => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255);
  const place = fc
    .nat(areas.length - 1)
    .chain((area) => fc.nat((areas[area]?.length ?? 8) / 4 - 2).map((word) => ({ area, at: word * 4 })));
  const valueAt = ({ area, at }: { area: number; at: number }): number => areas[area]?.readUInt32BE(at) ?? 0;
  const edit = place.chain((where) =>
    fc
      .oneof(
        fc.integer({ min: -3, max: 3 }).map((delta) => u32(valueAt(where) + delta)),
        fc.nat(31).map((bit) => u32(valueAt(where) ^ (1 << bit))),
        fc.nat(5000).map(u32),
        place.map((other) => u32(valueAt(other))),
        fc.array(fc.nat(255), { minLength: 1, maxLength: 8 }),
      )
      .map((bytes) => ({ ...where, bytes })),
  );
  return fc.array(edit, { minLength: 1, maxLength: 4 });
}

async function lostIn({ bytes, used }: Sample): Promise<number[] | undefined> {
  const answer = await xfsFreeSpace(bufferReader(bytes), wholeVolume(bytes.length));
  if (answer.status !== 'free') return undefined;
  try {
    const ranges = await freeRangesOf(Promise.resolve(answer));
    return ranges.flatMap(([offset, length]) => {
      const first = Math.floor(offset / BLOCK);
      const inUse = used.subarray(first, Math.ceil((offset + length) / BLOCK)).indexOf(1);
      return inUse < 0 ? [] : [first + inUse];
    });
  } catch (error) {
    if (reasonOf(error) === undefined) throw error;
    return undefined;
  }
}

describe.skipIf(lacks)(`damaged XFS${lacks}`, () => {
  it.each([
    ['version 4, without checksums', oldImage],
    ['version 5', usedImage],
  ])('%s: nothing is lost', async (_name, make) => {
    const sample = await makeSample(make());
    let accepted = 0;
    await fc.assert(
      fc.asyncProperty(edits(sample), async (changes) => {
        const intact = sample.areas.map((area) => Buffer.from(area));
        for (const { area, at, bytes } of changes) sample.areas[area]?.set(bytes, at);
        try {
          const lost = await lostIn(sample);
          if (!lost) return;
          accepted += 1;
          expect(lost).toEqual([]);
        } finally {
          for (const [index, area] of sample.areas.entries()) intact[index]?.copy(area);
        }
      }),
      { seed: 21, numRuns: RUNS },
    );
    expect(accepted).toBeGreaterThan(10);
    expect(accepted).toBeLessThan(RUNS * 0.8);
  });
});
