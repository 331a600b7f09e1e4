/**
 * Striped disks against their definition, byte by byte.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { walkExtents } from '../../../src/block/extent.js';
import { StripedSource } from '../../../src/block/striped-source.js';
import { MemoryFile } from '../../../src/io/memory-file.js';

function files(...sizes: number[]): MemoryFile[] {
  return sizes.map((size, index) => new MemoryFile(new Uint8Array(size), `member-${index}`));
}

describe('a striped disk', () => {
  it('has each byte where RAID 0 puts it', async () => {
    const shape = fc.record({
      sizes: fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 5 }),
      chunk: fc.integer({ min: 1, max: 9 }),
      from: fc.nat(),
      count: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(shape, async ({ sizes, chunk, from, count }) => {
        const members = files(...sizes);
        const disk = new StripedSource(members, chunk);
        const rounds = Math.floor(Math.min(...sizes) / chunk);
        expect(disk.virtualSize).toBe(rounds * chunk * sizes.length);
        const offset = from % (disk.virtualSize + 1);
        const length = count % (disk.virtualSize - offset + 1);
        let at = offset;
        for (const extent of await disk.locate(offset, length)) {
          expect(extent.offset).toBe(at);
          for (let index = 0; index < extent.length; index += 1, at += 1) {
            const turn = Math.floor(at / chunk);
            expect(extent.file).toBe(members[turn % sizes.length]);
            expect(extent.fileOffset + index).toBe(Math.floor(turn / sizes.length) * chunk + (at % chunk));
          }
        }
        expect(at).toBe(offset + length);
      }),
      { numRuns: 200, endOnFailure: true },
    );
  });

  it('of one file is that file', async () => {
    const disk = new StripedSource(files(1000), 10);
    const extents = [];
    for await (const extent of walkExtents(disk, { offset: 5, length: 900 })) extents.push(extent);
    expect(extents).toMatchObject([{ offset: 5, length: 900, fileOffset: 5 }]);
  });

  it('refuses nonsense, ranges behind its end, and answers without bound', async () => {
    for (const make of [() => new StripedSource([], 4096), () => new StripedSource(files(10), 0)]) {
      expect(make).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
    const disk = new StripedSource(files(500_000, 500_000), 1);
    await expect(disk.locate(999_999, 2)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    await expect(disk.locate(0, 300_000)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await disk.locate(0, 1000)).toHaveLength(1000);
  });
});
