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

  it('never forget a byte however many there are, and stay few', () => {
    const ranges = new ChangedRanges();
    const changed: number[] = [];
    for (let index = 0; index < 100_000; index += 1) {
      const offset = ((index * 7919) % 100_003) * 12_345;
      ranges.add(offset, 10);
      changed.push(offset);
    }
    for (const offset of changed) if (!ranges.overlaps(offset + 9, 1)) expect.fail(`forgot ${offset}`);
    // Rounded outwards, but not to everything: the file is 1.2 GB long.
    expect(ranges.overlaps(2 ** 40, 2 ** 20)).toBe(false);
  });

  it('takes no more for changed than it must, and the smallest gaps first', () => {
    const ranges = new ChangedRanges();
    const gap = (index: number): number => (index % 3 === 0 ? 2 ** 20 : 4096);
    const starts: number[] = [];
    for (let index = 0, at = 0; index < 45_000; index += 1) {
      starts.push(at);
      ranges.add(at, 512);
      at += 512 + gap(index);
    }
    const free = starts.filter((start) => !ranges.overlaps(start + 512, 4096));
    expect(free.length).toBeGreaterThan(15_000);
    for (const [index, start] of starts.entries()) {
      expect(ranges.overlaps(start + 511, 1)).toBe(true);
      if (index % 3 === 0) expect(ranges.overlaps(start + 512, 2 ** 20)).toBe(false);
    }
  });
});
