import fc from 'fast-check';
import { expect, it } from 'vitest';
import { allSet, clearRuns, setBits } from '../../../src/guestfs/bitmap-runs.js';

const bitmaps = fc.array(fc.constantFrom(0x00, 0xff, 0x0f, 0x80, 0x01, 0xa5), { maxLength: 40 });

it('finds the runs of clear bits, bit by bit the same', () => {
  fc.assert(
    fc.property(bitmaps, fc.nat(330), fc.nat(330), (bytes, from, end) => {
      const bitmap = Uint8Array.from(bytes);
      const isSet = (bit: number): boolean => (((bitmap[bit >> 3] ?? 0xff) >> (bit & 7)) & 1) === 1;
      const expected: number[] = [];
      for (let bit = from; bit < end; bit += 1) if (!isSet(bit)) expected.push(bit);
      const runs = [...clearRuns(bitmap, from, end)];
      const found = runs.flatMap(({ first, count }) =>
        Array.from({ length: count }, (_, index) => first + index),
      );
      expect(found).toEqual(expected);
      for (const [index, run] of runs.entries()) {
        const before = runs[index - 1];
        expect(run.count > 0 && (!before || before.first + before.count < run.first)).toBe(true);
      }
      expect(allSet(bitmap, from, end)).toBe(expected.length === 0);
    }),
  );
});

it('sets bits and no others', () => {
  const bitmap = new Uint8Array(4);
  setBits(bitmap, 3, 17);
  expect([...clearRuns(bitmap, 0, 32)]).toEqual([
    { first: 0, count: 3 },
    { first: 17, count: 15 },
  ]);
});
