import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  clipExtent,
  type Extent,
  LOCATE_WINDOW,
  pushExtent,
  pushPlace,
  walkExtents,
} from '../../../src/block/extent.js';
import { MemoryFile } from '../../../src/io/memory-file.js';

const file = new MemoryFile();

function data(offset: number, length: number, fileOffset: number): Extent {
  return { state: 'data', offset, length, file, fileOffset };
}

describe('pushExtent', () => {
  it('merges what is contiguous on the disk and in the file, and nothing else', () => {
    const extents: Extent[] = [];
    pushExtent(extents, data(0, 10, 100));
    pushExtent(extents, data(10, 10, 110));
    pushExtent(extents, data(20, 10, 500));
    pushExtent(extents, { state: 'zero', offset: 30, length: 5 });
    pushExtent(extents, { state: 'zero', offset: 35, length: 5 });
    pushExtent(extents, { state: 'absent', offset: 40, length: 5 });
    pushExtent(extents, data(45, 0, 900));
    expect(extents.map(({ state, offset, length }) => [state, offset, length])).toEqual([
      ['data', 0, 20],
      ['data', 20, 10],
      ['zero', 30, 10],
      ['absent', 40, 5],
    ]);
  });

  it('keeps extents of different files apart', () => {
    const extents: Extent[] = [data(0, 10, 0)];
    pushExtent(extents, { state: 'data', offset: 10, length: 10, file: new MemoryFile(), fileOffset: 10 });
    expect(extents).toHaveLength(2);
  });

  it('does not change the extents it was given', () => {
    const first = data(0, 10, 0);
    const extents: Extent[] = [];
    pushExtent(extents, first);
    pushExtent(extents, data(10, 10, 10));
    expect(first.length).toBe(10);
  });
});

describe('pushPlace', () => {
  it('merges neighbours', () => {
    const places = [{ offset: 0, length: 4, file, fileOffset: 8 }];
    pushPlace(places, { offset: 4, length: 4, file, fileOffset: 12 });
    pushPlace(places, { offset: 8, length: 4, file, fileOffset: 20 });
    expect(places.map(({ offset, length }) => [offset, length])).toEqual([
      [0, 8],
      [8, 4],
    ]);
  });
});

describe('clipExtent', () => {
  it('moves the file offset along with the start', () => {
    expect(clipExtent(data(100, 50, 1000), 120, 10)).toMatchObject({
      offset: 120,
      length: 10,
      fileOffset: 1020,
    });
    expect(clipExtent(data(100, 50, 1000), 0, 110)).toMatchObject({
      offset: 100,
      length: 10,
      fileOffset: 1000,
    });
  });
});

describe('walkExtents', () => {
  it('covers a range exactly, in order, merging across windows and respecting the longest length', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom('data', 'zero'), fc.integer({ min: 1, max: LOCATE_WINDOW * 2 })), {
          minLength: 1,
          maxLength: 8,
        }),
        async (parts) => {
          const all: Extent[] = [];
          let size = 0;
          for (const [state, length] of parts) {
            if (state === 'data') all.push(data(size, length, size * 2));
            else all.push({ state: 'zero', offset: size, length });
            size += length;
          }
          const locate = async (offset: number, length: number): Promise<Extent[]> =>
            all
              .filter((e) => e.offset < offset + length && e.offset + e.length > offset)
              .map((e) => clipExtent(e, offset, length));
          let at = 0;
          let previous: Extent | undefined;
          for await (const extent of walkExtents({ locate }, { offset: 0, length: size })) {
            expect(extent.offset).toBe(at);
            if (previous && extent.state === 'zero') expect(previous.state).not.toBe('zero');
            at += extent.length;
            previous = extent;
          }
          expect(at).toBe(size);
        },
      ),
      { numRuns: 50 },
    );
  });
});
