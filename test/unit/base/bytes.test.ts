import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatSize,
  GiB,
  isPowerOfTwo,
  KiB,
  MiB,
  parseSize,
  roundDown,
  roundUp,
  TiB,
  toSafeNumber,
} from '../../../src/base/bytes.js';

describe('parseSize', () => {
  it.each([
    ['512', 512],
    ['64K', 64 * KiB],
    ['10M', 10 * MiB],
    ['2G', 2 * GiB],
    ['1T', TiB],
    ['1.5G', 1.5 * GiB],
    ['3 MiB', 3 * MiB],
    ['7kb', 7 * KiB],
    ['100b', 100],
  ])('%s', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(['', 'x', '-1', '1Q', '0x10', '1e3', '1.3', '99999999T', '1 0', 'K'])('refuses %j', (text) => {
    expect(() => parseSize(text)).toThrowError(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});

describe('formatSize', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [KiB, '1 KiB'],
    [1.5 * GiB, '1.50 GiB'],
    [10 * MiB, '10 MiB'],
    [127 * GiB, '127 GiB'],
  ])('%d', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
});

describe('rounding', () => {
  it('gives the neighbouring multiples', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 46 }),
        fc.integer({ min: 1, max: 2 ** 28 }),
        (value, unit) => {
          const up = roundUp(value, unit);
          const down = roundDown(value, unit);
          expect(up % unit).toBe(0);
          expect(down % unit).toBe(0);
          expect(up - value).toBeGreaterThanOrEqual(0);
          expect(up - value).toBeLessThan(unit);
          expect(value - down).toBeLessThan(unit);
        },
      ),
    );
  });

  it('knows powers of two', () => {
    for (let bit = 0; bit < 53; bit += 1) expect(isPowerOfTwo(2 ** bit)).toBe(true);
    for (const value of [0, -2, 3, 6, 1.5, Number.NaN, 2 ** 53 + 2, Number.POSITIVE_INFINITY]) {
      expect(isPowerOfTwo(value)).toBe(false);
    }
  });
});

describe('toSafeNumber', () => {
  it('refuses what a number cannot hold', () => {
    expect(toSafeNumber(0n)).toBe(0);
    expect(toSafeNumber(2n ** 53n - 1n)).toBe(Number.MAX_SAFE_INTEGER);
    expect(toSafeNumber(2n ** 53n)).toBeUndefined();
    expect(toSafeNumber(2n ** 63n)).toBeUndefined();
    expect(toSafeNumber(-1n)).toBeUndefined();
  });
});
