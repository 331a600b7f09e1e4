/** What compact gives back, on random images, against a byte model. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../../../src/base/random.js';
import type { Locator } from '../../../../src/block/extent.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { createImage, editImage } from '../../../../src/formats/registry.js';
import type { ByteRange } from '../../../../src/io/random-access-file.js';
import { type Decision, decide } from '../../../../src/operations/compact/decide.js';
import { giveBack } from '../../../../src/operations/compact/give-back.js';
import { CrashDisk } from '../../../support/crash-disk.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const UNIT = 64 * KiB;
const clock = { now: () => 1.7e12 };

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

interface Scene {
  format: 'vhd' | 'vhdx' | 'raw';
  blockSize: number;
  blocks: number;
  /** By unit of 64 KiB: what is written there; 0 are stored zeros, -1 nothing. */
  units: number[];
  isFree: boolean[];
  zeros: boolean;
}

const scene: fc.Arbitrary<Scene> = fc
  .constantFrom(
    { format: 'vhd' as const, blockSize: 128 * KiB, blocks: 12 },
    { format: 'vhdx' as const, blockSize: MiB, blocks: 4 },
    { format: 'raw' as const, blockSize: UNIT, blocks: 40 },
  )
  .chain((shape) => {
    const count = (shape.blocks * shape.blockSize) / UNIT;
    // Runs, so that whole blocks are alike now and then.
    const runs = <T>(values: fc.Arbitrary<T>) =>
      fc
        .array(fc.record({ value: values, length: fc.integer({ min: 1, max: 24 }) }), {
          minLength: count / 8,
        })
        .map((list) => list.flatMap(({ value, length }) => Array.from({ length }, () => value)))
        .map((list) => Array.from({ length: count }, (_, index) => list[index]));
    return fc.record({
      format: fc.constant(shape.format),
      blockSize: fc.constant(shape.blockSize),
      blocks: fc.constant(shape.blocks),
      units: runs(fc.constantFrom(-1, 0, 0, 7, 9)).map((list) => list.map((value) => value ?? -1)),
      isFree: runs(fc.boolean()).map((list) => list.map((value) => value ?? false)),
      zeros: fc.boolean(),
    });
  });

function freeRanges({ isFree }: Scene): ByteRange[] {
  return isFree.flatMap((free, index) => (free ? [{ offset: index * UNIT, length: UNIT }] : []));
}

/** The image as it is written, open for changes. */
async function built({ format, blockSize, blocks, units }: Scene) {
  const disk = new CrashDisk([['image', new Uint8Array(0)]]);
  const { fileSystem } = { fileSystem: disk.fileSystem() };
  const virtualSize = blocks * blockSize;
  const made = await createImage(await fileSystem.open('image', { writable: true }), format, {
    type: format === 'raw' ? 'fixed' : 'dynamic',
    virtualSize,
    ...(format === 'raw' ? {} : { blockSize }),
    clock,
    random: systemRandom,
  });
  for (const [index, value] of units.entries()) {
    if (value < 0) continue;
    const write = await made.prepareWrite(index * UNIT, UNIT);
    for (const { file, fileOffset, length } of write.places)
      await file.write(Buffer.alloc(length, value), fileOffset);
    await write.commit();
  }
  await made.flush();
  await made.close();
  const file = await fileSystem.open('image', { writable: true });
  return editImage(file, { clock, random: systemRandom }, { format });
}

async function contentOf(image: Locator): Promise<Buffer> {
  const content = Buffer.alloc(image.virtualSize);
  await readDisk(image, content, 0);
  return content;
}

/** The blocks that must go: stored, and every stored unit of them is free, or zero where that counts. */
function expectedBlocks({ blockSize, blocks, units, isFree, zeros }: Scene, storesAll: boolean): number[] {
  const perBlock = blockSize / UNIT;
  return Array.from({ length: blocks }, (_, block) => block).filter((block) => {
    const own = Array.from({ length: perBlock }, (_, index) => block * perBlock + index);
    if (!storesAll && own.every((unit) => (units[unit] ?? -1) < 0)) return false;
    return own.every((unit) => isFree[unit] || (zeros && (units[unit] ?? -1) <= 0));
  });
}

describe('decide and giveBack', () => {
  it('give back all blocks without a used byte, and lose nothing', async () => {
    await fc.assert(
      fc.asyncProperty(scene, async (given) => {
        const image = await built(given);
        const before = await contentOf(image);
        const options = { zeros: given.zeros, free: each(freeRanges(given)) };
        const decisions: Decision[] = [];
        for await (const decision of decide(image, options)) decisions.push(decision);
        const gone = decisions.filter(({ action }) => action !== 'hollow');
        // A VHD knows by sectors what is stored: a block of which nothing used is stored goes, too.
        if (given.format !== 'vhd')
          expect(gone.map(({ offset }) => offset / given.blockSize)).toEqual(
            expectedBlocks(given, given.format === 'raw'),
          );
        for (const { parts, action } of decisions)
          if (action === 'hollow')
            for (const part of parts)
              for (let at = part.offset; at < part.offset + part.length; at += 4096)
                expect(given.isFree[Math.floor(at / UNIT)]).toBe(true);

        const again = { zeros: given.zeros, free: each(freeRanges(given)) };
        const back = await giveBack(image, again);
        expect(back.blocks).toBe(gone.length);
        const after = await contentOf(image);
        for (const [index, free] of given.isFree.entries()) {
          if (free) continue;
          const range = [index * UNIT, (index + 1) * UNIT] as const;
          expect(after.subarray(...range).equals(before.subarray(...range))).toBe(true);
        }
        const findings = await image.check();
        expect(findings.filter(({ severity }) => severity === 'error')).toEqual([]);
        await image.close();
      }),
      { numRuns: 60 },
    );
  });

  it('reads payload that is not zero no further than its beginning', async () => {
    const image = await built({
      format: 'vhdx',
      blockSize: MiB,
      blocks: 4,
      units: Array.from({ length: 64 }, () => 7),
      isFree: [],
      zeros: true,
    });
    const { file } = image;
    let bytes = 0;
    const read = file.read.bind(file);
    file.read = (buffer, offset) => {
      if (offset >= 4 * MiB) bytes += buffer.length;
      return read(buffer, offset);
    };
    for await (const _ of decide(image, { zeros: true })) throw new Error('nothing can go');
    expect(bytes).toBe(4 * 4 * KiB);
  });

  it('in front of a parent, knows what the parent shows anyway and what it must hide', async () => {
    const blocks = [7, 0, 9, 0];
    const shape = { format: 'vhdx' as const, blockSize: MiB, blocks: 4, isFree: [], zeros: true };
    const image = await built({ ...shape, units: Array.from({ length: 64 }, (_, u) => blocks[u >> 4] ?? 0) });
    const parent = [7, 5, 5, 0];
    const below = await built({ ...shape, units: Array.from({ length: 64 }, (_, u) => parent[u >> 4] ?? 0) });
    const decisions: [number, string][] = [];
    for await (const { offset, action } of decide(image, { zeros: true, below }))
      decisions.push([offset / MiB, action]);
    expect(decisions).toEqual([
      [0, 'discard'],
      [1, 'zero'],
      [3, 'discard'],
    ]);
  });
});
