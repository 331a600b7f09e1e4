import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { walkExtents } from '../../../../src/block/extent.js';
import { Chain } from '../../../../src/formats/chain.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { RawImage } from '../../../../src/formats/raw/raw-image.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { PatchedChain } from '../../../../src/operations/convert/reblock.js';

const KiB = 1024;
const UNIT = 512;

function chainOf(bytes: Uint8Array): Chain {
  const file = new MemoryFile(bytes);
  return new Chain([new RawImage(file, bytes.length, 'reading')]);
}

function pattern(length: number, seed: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, at) => (at * 31 + (at >> 9) * 7 + seed) & 0xff));
}

const shape = fc
  .record({ size: fc.integer({ min: 1, max: 400 }), more: fc.integer({ min: 0, max: 40 }) })
  .chain(({ size, more }) =>
    fc.record({
      size: fc.constant(size * UNIT),
      total: fc.constant((size + more) * UNIT),
      edits: fc.array(
        fc
          .tuple(fc.nat(size + more - 1), fc.integer({ min: 1, max: 40 }), fc.nat(255))
          .map(([at, count, seed]) => ({
            offset: at * UNIT,
            bytes: pattern(Math.min(count, size + more - at) * UNIT, seed),
          })),
        { maxLength: 6 },
      ),
    }),
  );

describe('a chain with other bytes in some places', () => {
  it('shows the edits, the later ones on top, zeros behind the old end, and else what it showed', async () => {
    await fc.assert(
      fc.asyncProperty(
        shape,
        fc.double({ min: 0, max: 1, noNaN: true }),
        async ({ size, total, edits }, cut) => {
          const source = pattern(size, 1);
          const model = Buffer.alloc(total);
          source.copy(model);
          for (const { offset, bytes } of edits) bytes.copy(model, offset);
          const patched = await PatchedChain.create(chainOf(source), total, edits);
          expect(patched.virtualSize).toBe(total);
          const from = Math.floor(cut * (total - 1));
          const part = Buffer.alloc(total - from);
          await readDisk(patched, part, from);
          expect(part.equals(model.subarray(from))).toBe(true);
          let at = 0;
          for await (const extent of walkExtents(patched, { offset: 0, length: total })) {
            expect(extent.offset).toBe(at);
            at += extent.length;
          }
          expect(at).toBe(total);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('leaves everything but the 4 KiB around an edit where it was', async () => {
    const chain = chainOf(pattern(256 * KiB, 3));
    const edits = [{ offset: 65 * KiB, bytes: pattern(512, 9) }];
    const patched = await PatchedChain.create(chain, 256 * KiB, edits);
    const extents = await patched.locate(0, 256 * KiB);
    expect(extents).toMatchObject([
      { state: 'data', offset: 0, length: 64 * KiB, fileOffset: 0 },
      { state: 'data', offset: 64 * KiB, length: 4 * KiB },
      { state: 'data', offset: 68 * KiB, length: 188 * KiB, fileOffset: 68 * KiB },
    ]);
    const files = extents.map((extent) => extent.state === 'data' && extent.file === chain.top.file);
    expect(files).toEqual([true, false, true]);
  });

  it('is no larger than it says', async () => {
    const patched = await PatchedChain.create(chainOf(pattern(4096, 3)), 8192, []);
    await expect(patched.locate(8192 - 512, 1024)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
  });
});
