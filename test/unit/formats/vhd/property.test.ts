import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DiskImage } from '../../../../src/formats/disk-image.js';
import { createVhd } from '../../../../src/formats/vhd/create.js';
import { openVhd } from '../../../../src/formats/vhd/open.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { differencingVhd } from '../../../support/vhd-differencing.js';
import { CHILD_ID, contentOf, createOptions, KiB, MiB, openBytes, PARENT_ID, patterned } from './images.js';

/** Reads a VHD straight from the specification, without the code under test. */
function plainRead(file: Buffer): Buffer {
  const footer = file.subarray(file.length - 512);
  const size = Number(footer.readBigUInt64BE(48));
  if (footer.readUInt32BE(60) === 2) return Buffer.from(file.subarray(0, size));
  const header = file.subarray(Number(footer.readBigUInt64BE(16)));
  const blockSize = header.readUInt32BE(32);
  const table = Number(header.readBigUInt64BE(16));
  const bitmap = Math.ceil(blockSize / 4096 / 512) * 512;
  const out = Buffer.alloc(Math.ceil(size / blockSize) * blockSize);
  for (let block = 0; block * blockSize < size; block += 1) {
    const sector = file.readUInt32BE(table + block * 4);
    if (sector === 0xffffffff) continue;
    file.copy(out, block * blockSize, sector * 512 + bitmap, sector * 512 + bitmap + blockSize);
  }
  return out.subarray(0, size);
}

const position = fc.double({ min: 0, max: 1, noNaN: true });
const step = fc.record({
  at: position,
  length: fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 200 * KiB })),
  end: fc.constantFrom('commit', 'commit', 'commit', 'abort', 'flush'),
});
const shape = fc.record({
  type: fc.constantFrom('dynamic', 'dynamic', 'fixed' as const),
  // From 4 MiB on a bitmap has more than one sector.
  blockSize: fc.constantFrom(4 * KiB, 8 * KiB, 64 * KiB, 512 * KiB, 2 * MiB, 4 * MiB),
  blocks: fc.integer({ min: 1, max: 5 }),
  edge: fc.constantFrom(-512, 0, 512),
  steps: fc.array(step, { maxLength: 10 }),
});

async function write(image: DiskImage, offset: number, bytes: Buffer, end: string): Promise<void> {
  const prepared = await image.prepareWrite(offset, bytes.length);
  let at = offset;
  for (const place of prepared.places) {
    expect(place.offset).toBe(at);
    await place.file.write(bytes.subarray(at - offset, at - offset + place.length), place.fileOffset);
    at += place.length;
  }
  expect(at).toBe(offset + bytes.length);
  if (end === 'abort') await prepared.abort();
  else await prepared.commit();
}

describe('VHDs against a byte array', () => {
  it('show what was written: while being made, reopened, and to a reader written from the specification', async () => {
    await fc.assert(
      fc.asyncProperty(shape, async ({ type, blockSize, blocks, edge, steps }) => {
        const size = blocks * blockSize + edge;
        const model = Buffer.alloc(size);
        const touched = new Set<number>();
        const file = new MemoryFile();
        const image = await createVhd(file, createOptions(type, size, blockSize));
        for (const [index, { at, length, end }] of steps.entries()) {
          const offset = Math.floor(at * (size - 1));
          const bytes = patterned(Math.min(length, size - offset), index);
          const first = Math.floor(offset / blockSize);
          const last = Math.floor((offset + bytes.length - 1) / blockSize);
          const fresh =
            type === 'dynamic' &&
            !Array.from({ length: last - first + 1 }, (_, each) => first + each).some((block) =>
              touched.has(block),
            );
          // Only writes into new blocks can be taken back.
          const how = end === 'abort' && !fresh ? 'commit' : end;
          await write(image, offset, bytes, how);
          if (how === 'abort') continue;
          for (let block = first; block <= last; block += 1) touched.add(block);
          bytes.copy(model, offset);
          if (how === 'flush') {
            await image.flush();
            expect((await contentOf(await openBytes(file.bytes()))).equals(model)).toBe(true);
          }
        }
        expect((await contentOf(image, 70001)).equals(model)).toBe(true);
        await image.flush();
        const stored = Buffer.from(file.bytes());
        expect(plainRead(stored).equals(model)).toBe(true);
        const again = await openBytes(stored);
        expect(again.virtualSize).toBe(size);
        expect(again.warnings).toEqual([]);
        expect((await contentOf(again, 33333)).equals(model)).toBe(true);
        expect((await again.check()).filter(({ severity }) => severity !== 'leak')).toEqual([]);
      }),
      { numRuns: 120 },
    );
  });

  it('resolve every range of a child sector by sector', async () => {
    const sectors = 5 * 16 - 3;
    const held = fc.uniqueArray(fc.integer({ min: 0, max: sectors - 1 }), { maxLength: 40 });
    const range = fc.tuple(fc.nat(sectors * 512), fc.nat(sectors * 512));
    await fc.assert(
      fc.asyncProperty(held, range, async (list, [a, b]) => {
        const blocks = new Map<number, Map<number, number>>();
        for (const sector of list) {
          const block = blocks.get(sector >> 4) ?? new Map<number, number>();
          block.set(sector & 15, 1 + (sector % 200));
          blocks.set(sector >> 4, block);
        }
        const image = await openVhd(
          new MemoryFile(
            differencingVhd({
              size: sectors * 512,
              uniqueId: CHILD_ID,
              parentId: PARENT_ID,
              blockSize: 8192,
              blocks: [...blocks].map(([index, map]) => ({ index, sectors: map })),
            }),
          ),
        );
        const offset = Math.min(a, b);
        const length = Math.abs(a - b);
        let at = offset;
        for (const extent of await image.locate(offset, length)) {
          expect(extent.offset).toBe(at);
          expect(extent.length).toBeGreaterThan(0);
          const end = at + extent.length;
          for (let sector = Math.floor(at / 512); sector * 512 < end; sector += 1) {
            expect(extent.state).toBe(list.includes(sector) ? 'data' : 'absent');
          }
          if (extent.state === 'data') {
            const bytes = Buffer.alloc(extent.length);
            await extent.file.read(bytes, extent.fileOffset);
            const expected = Array.from(bytes, (_, index) => 1 + (Math.floor((at + index) / 512) % 200));
            expect([...bytes]).toEqual(expected);
          }
          at = end;
        }
        expect(at).toBe(offset + length);
      }),
      { numRuns: 150 },
    );
  });
});
