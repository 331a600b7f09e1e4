/**
 * Damaged and hostile ext file systems: what the intact one uses is never called free, unless the damaged
 * bitmap itself says so and everything that can be checked still fits.
 */
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { extCrc32c } from '../../src/guestfs/ext/checksum.js';
import { extFreeSpace } from '../../src/guestfs/ext/free-space.js';
import { reasonOf } from '../../src/guestfs/inconsistent.js';
import { bufferReader, freeRangesOf, wholeVolume } from '../support/guest-disk.js';
import { lacking } from '../support/requires.js';
import { must } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder } from '../support/tmp.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const SUPER = 1024;
const RUNS = Number(process.env.VHDKIT_FUZZ_RUNS ?? 1200);
const lacks = lacking('mke2fs', 'dumpe2fs');

/** Sizes, counts, features, places: what a wrong layout would follow from. */
const SHAPE_FIELDS = [
  0, 4, 0xc, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x58, 0x5c, 0x60, 0x64, 0xce, 0xfe, 0x104,
];

interface Sample {
  bytes: Buffer;
  blockSize: number;
  blocks: number;
  firstBlock: number;
  perGroup: number;
  descriptorSize: number;
  gdtAt: number;
  /** By block: 1 is in use. */
  used: Uint8Array;
  /** Byte offsets of the bitmaps, by group. */
  bitmaps: number[];
  /** Fixed metadata that no answer may ever contain: superblock and descriptors of group 0. */
  head: number;
}

async function makeSample(args: readonly string[], mib = 36): Promise<Sample> {
  const folder = makeTempFolder('ext-damage');
  const image = path.join(folder, 'image');
  const tree = path.join(folder, 'tree');
  mkdirSync(tree);
  for (let index = 0; index < 30; index += 1)
    writeFileSync(path.join(tree, `${index}`), seededBytes(1 + ((index * 7919) % 60000), index));
  writeFileSync(image, '');
  truncateSync(image, mib * MIB);
  await must('mke2fs', ['-q', '-F', ...args, '-d', tree, image]);
  const bytes = readFileSync(image);
  const sb = bytes.subarray(SUPER);
  const blockSize = KIB << sb.readUInt32LE(0x18);
  const descriptorSize = sb.readUInt32LE(0x60) & 0x80 ? sb.readUInt16LE(0xfe) : 32;
  const gdtAt = blockSize === KIB ? 2 * KIB : blockSize;
  const blocks = sb.readUInt32LE(4);
  const used = new Uint8Array(blocks).fill(1);
  const ranges = await freeRangesOf(extFreeSpace(bufferReader(bytes), wholeVolume(bytes.length)));
  for (const [offset, length] of ranges) used.fill(0, offset / blockSize, (offset + length) / blockSize);
  const perGroup = sb.readUInt32LE(0x20);
  const groups = Math.ceil((blocks - sb.readUInt32LE(0x14)) / perGroup);
  const bitmaps = Array.from(
    { length: groups },
    (_, group) => bytes.readUInt32LE(gdtAt + group * descriptorSize) * blockSize,
  );
  return {
    bytes,
    blockSize,
    blocks,
    firstBlock: sb.readUInt32LE(0x14),
    perGroup,
    descriptorSize,
    gdtAt,
    used,
    bitmaps,
    head: gdtAt + groups * descriptorSize,
  };
}

/** Blocks in use that an answer gives back though the bitmap of the damaged image has them marked. */
function lost(sample: Sample, damaged: Buffer, ranges: readonly [number, number][]): number[] {
  const { blockSize, used, firstBlock, perGroup } = sample;
  const found: number[] = [];
  for (const [offset, length] of ranges) {
    for (let block = Math.floor(offset / blockSize); block * blockSize < offset + length; block += 1) {
      if (used[block] !== 1) continue;
      const index = block - firstBlock;
      const at = (sample.bitmaps[Math.floor(index / perGroup)] ?? 0) + ((index % perGroup) >> 3);
      if (((damaged[at] ?? 0xff) >> ((index % perGroup) & 7)) & 1) found.push(block);
    }
  }
  return found;
}

/** The free ranges; undefined when the volume is kept or not recognised. Any other failure is one. */
async function judge(damaged: Buffer): Promise<[number, number][] | undefined> {
  const answer = await extFreeSpace(bufferReader(damaged), wholeVolume(damaged.length));
  if (answer.status !== 'free') return undefined;
  try {
    return await freeRangesOf(Promise.resolve(answer));
  } catch (error) {
    if (reasonOf(error) === undefined) throw error;
    return undefined;
  }
}

interface Edit {
  at: number;
  bytes: number[];
}

/** Overwrites that hit fields: numbers of other places, single bits, small changes, garbage. */
function edits(sample: Sample): fc.Arbitrary<Edit[]> {
  const { bytes, gdtAt, head, bitmaps, blockSize } = sample;
  const areas = [
    [SUPER, SUPER + 0x280],
    [gdtAt, head],
    ...bitmaps.map((at) => [at, at + blockSize] as const),
  ] as const;
  const place = fc
    .constantFrom(...areas)
    .chain(([from, to]) => fc.integer({ min: from, max: to - 8 }))
    .chain((at) => fc.constantFrom(at, at - (at % 2), at - (at % 4)));
  const edit = place.chain((at) =>
    fc.oneof(
      fc.nat(7).map((bit) => ({ at, bytes: [(bytes[at] ?? 0) ^ (1 << bit)] })),
      fc.constantFrom(0, 1, 2, 3, 7, 8, 255).map((value) => ({ at, bytes: [value] })),
      fc.integer({ min: -2, max: 2 }).map((delta) => {
        const field = (bytes.readUInt32LE(at) + delta) >>> 0;
        return { at, bytes: [field & 255, (field >> 8) & 255, (field >> 16) & 255, field >>> 24] };
      }),
      // What stands somewhere else in the metadata.
      place.map((from) => ({ at, bytes: [...bytes.subarray(from, from + 4)] })),
      fc.array(fc.nat(255), { minLength: 1, maxLength: 8 }).map((values) => ({ at, bytes: values })),
    ),
  );
  const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 255);
  // Pointers to bitmaps and inode tables, and their flags and counts, of a group.
  const pointer = fc
    .tuple(fc.nat(bitmaps.length - 1), fc.constantFrom(0, 4, 8), fc.nat(sample.blocks + 8))
    .map(([group, field, block]) => ({
      at: gdtAt + group * sample.descriptorSize + field,
      bytes: u32(block),
    }));
  const swapped = fc.tuple(fc.nat(bitmaps.length - 1), fc.nat(bitmaps.length - 1)).map(([group, other]) => ({
    at: gdtAt + group * sample.descriptorSize,
    bytes: [...bytes.subarray(gdtAt + other * sample.descriptorSize).subarray(0, 20)],
  }));
  const shape = fc
    .tuple(
      fc.constantFrom(...SHAPE_FIELDS),
      fc.oneof(
        fc.nat(16),
        fc.nat(16).map((n) => 2 ** n),
      ),
    )
    .map(([field, value]) => ({ at: SUPER + field, bytes: u32(value) }));
  return fc.array(fc.oneof(edit, pointer, swapped, shape), { minLength: 1, maxLength: 4 });
}

/** Runs something on the damaged image, and undoes the damage. */
async function withDamage<T>(
  { bytes, head, bitmaps, blockSize }: Sample,
  damage: (bytes: Buffer) => void,
  action: (damaged: Buffer) => Promise<T>,
): Promise<T> {
  const areas = [bytes.subarray(0, head), ...bitmaps.map((at) => bytes.subarray(at, at + blockSize))];
  const intact = areas.map((area) => Buffer.from(area));
  try {
    damage(bytes);
    return await action(bytes);
  } finally {
    for (const [index, area] of areas.entries()) intact[index]?.copy(area);
  }
}

function apply(bytes: Buffer, changes: readonly Edit[]): void {
  for (const { at, bytes: change } of changes) bytes.set(change, at);
}

/** Makes all checksums of metadata_csum right again, as a hostile author would. */
function reseal(sample: Sample, damaged: Buffer): void {
  const { bitmaps, perGroup, descriptorSize, gdtAt } = sample;
  const seed = extCrc32c(0xffffffff, damaged.subarray(SUPER + 0x68, SUPER + 0x78));
  for (const [group, bitmap] of bitmaps.entries()) {
    const descriptor = damaged.subarray(gdtAt + group * descriptorSize, gdtAt + (group + 1) * descriptorSize);
    const pointer = descriptor.readUInt32LE(0) * sample.blockSize;
    const place = pointer + sample.blockSize <= damaged.length ? pointer : bitmap;
    const sum = extCrc32c(seed, damaged.subarray(place, place + perGroup / 8));
    descriptor.writeUInt16LE(sum & 0xffff, 24);
    if (descriptorSize >= 64) descriptor.writeUInt16LE(sum >>> 16, 56);
    descriptor.writeUInt16LE(0, 30);
    const number = Buffer.alloc(4);
    number.writeUInt32LE(group);
    descriptor.writeUInt16LE(extCrc32c(extCrc32c(seed, number), descriptor) & 0xffff, 30);
  }
  damaged.writeUInt32LE(extCrc32c(0xffffffff, damaged.subarray(SUPER, SUPER + 1020)), SUPER + 1020);
}

const KINDS: [name: string, args: string[]][] = [
  ['ext2', ['-t', 'ext2', '-b', '1024']],
  ['ext3', ['-t', 'ext3', '-b', '1024']],
  ['ext4', ['-t', 'ext4', '-b', '1024', '-g', '1024']],
  ['ext4 with uninit_bg', ['-t', 'ext4', '-b', '1024', '-g', '1024', '-O', '^metadata_csum,uninit_bg']],
  ['ext4 without checksums', ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum,^uninit_bg']],
];

describe.skipIf(lacks)(`damaged ext2/3/4${lacks}`, () => {
  const samples = new Map<string, Sample>();

  beforeAll(async () => {
    for (const [name, args] of KINDS) samples.set(name, await makeSample(args));
  });

  function sampleOf(name: string): Sample {
    const sample = samples.get(name);
    if (!sample) throw new Error(`no sample ${name}`);
    return sample;
  }

  it.each(KINDS)('%s: random damage to its metadata loses nothing', async (name) => {
    const sample = sampleOf(name);
    let accepted = 0;
    await fc.assert(
      fc.asyncProperty(edits(sample), async (changes) => {
        await withDamage(
          sample,
          (bytes) => apply(bytes, changes),
          async (damaged) => {
            const ranges = await judge(damaged);
            if (!ranges) return;
            accepted += 1;
            expect(lost(sample, damaged, ranges)).toEqual([]);
          },
        );
      }),
      { seed: 11, numRuns: RUNS },
    );
    // Most of it is noticed, and some of it hits what does not matter.
    expect(accepted).toBeGreaterThan(10);
    expect(accepted).toBeLessThan(RUNS / 2);
  });

  it.each(['ext4', 'ext3'])('%s: lies that fit each other stay inside the volume', async (name) => {
    const sample = sampleOf(name);
    await fc.assert(
      fc.asyncProperty(edits(sample), async (changes) => {
        await withDamage(
          sample,
          (bytes) => {
            apply(bytes, changes);
            reseal(sample, bytes);
          },
          async (damaged) => {
            let end = sample.head;
            for (const [offset, length] of (await judge(damaged)) ?? []) {
              expect(offset).toBeGreaterThanOrEqual(end);
              end = offset + length;
            }
            expect(end).toBeLessThanOrEqual(damaged.length);
          },
        );
      }),
      { seed: 12, numRuns: RUNS },
    );
  });
});
