/** What a set of changed ranges must know, and may forget. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChangedRanges } from '../../../src/offload/changed-ranges.js';

const SIZE = 400;

describe('changed ranges', () => {
  it('are exact as long as there are few', () => {
    const range = fc.tuple(fc.nat(SIZE), fc.nat(30));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 60 }), fc.array(range, { minLength: 1 }), (changes, asked) => {
        const ranges = new ChangedRanges();
        const model = new Uint8Array(2 * SIZE);
        for (const [index, [offset, length]] of changes.entries()) {
          ranges.add(offset, length);
          model.fill(1, offset, offset + length);
          // Asking in between changes nothing.
          if (index % 7 === 3) ranges.overlaps(0, SIZE);
        }
        for (const [offset, length] of asked)
          expect(ranges.overlaps(offset, length)).toBe(model.subarray(offset, offset + length).includes(1));
      }),
      { endOnFailure: true },
    );
  });

  it.each([
    ['of 1 GiB', 2 ** 30, 4096],
    ['of 1 TiB', 2 ** 40, 2 ** 17],
    ['that grows to 1 PiB', 2 ** 50, 2 ** 27],
  ])('are rounded outwards when there are many, and none is forgotten: in a file %s', (_, size, piece) => {
    const ranges = new ChangedRanges();
    // Two in three parts of the file are changed here and there, some of it at large.
    const part = size / 64;
    const touched = new Set<number>();
    const add = (start: number, length: number): void => {
      ranges.add(start, length);
      for (let at = Math.floor(start / piece); at * piece < start + length; at += 1) touched.add(at);
    };
    for (let index = 0; index < 10_000; index += 1) {
      // What is far away comes late.
      const near = Math.min(64, 1 + Math.floor((index * 65) / 10_000));
      const which = (index * 7) % near;
      if (which % 3 !== 2) add(which * part + ((index * 7919 * 13) % (part - 20)), 10 + (index % 7));
    }
    add(piece * 5 + 1, piece * 40);
    for (const at of touched) if (!ranges.overlaps(at * piece, piece)) expect.fail(`forgot piece ${at}`);
    for (let which = 2; which < 64; which += 3) {
      const first = Math.ceil((which * part) / piece);
      const end = Math.min(first + 300, Math.floor(((which + 1) * part) / piece));
      let free = true;
      for (let at = first; at < end; at += 1)
        if (!touched.has(at) && ranges.overlaps(at * piece, piece)) free = false;
      expect(free, `part ${which}`).toBe(true);
    }
    expect(ranges.overlaps(size * 4, size)).toBe(false);
  });
});
