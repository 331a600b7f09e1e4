import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isZero, nonZeroRuns } from '../../../src/base/zeros.js';

describe('isZero', () => {
  it('sees a single byte anywhere', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300_000 }), fc.nat(), (length, place) => {
        const bytes = new Uint8Array(length);
        expect(isZero(bytes)).toBe(true);
        bytes[place % length] = 1;
        expect(isZero(bytes)).toBe(false);
      }),
    );
  });
});

describe('nonZeroRuns', () => {
  it('covers every non-zero byte, only chunks with one, and merges neighbours', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 600 }),
        fc.array(fc.nat(599)),
        fc.integer({ min: 1, max: 64 }),
        (length, places, grain) => {
          const bytes = new Uint8Array(length);
          for (const place of places) if (place < length) bytes[place] = 7;
          const runs = nonZeroRuns(bytes, grain);
          const covered = new Uint8Array(length);
          let last = -1;
          for (const { start, end } of runs) {
            expect(start).toBeGreaterThan(last);
            expect(start % grain).toBe(0);
            expect(end === length || end % grain === 0).toBe(true);
            for (let at = start; at < end; at += grain) {
              expect(isZero(bytes.subarray(at, Math.min(at + grain, end)))).toBe(false);
            }
            covered.fill(1, start, end);
            last = end;
          }
          for (const place of places) if (place < length) expect(covered[place]).toBe(1);
        },
      ),
    );
  });
});
