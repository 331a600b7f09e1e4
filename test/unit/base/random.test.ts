/**
 * The system's randomness: whatever is asked for is fresh, of the right length, and nobody else's.
 */
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../../src/base/random.js';

describe('systemRandom', () => {
  it('never gives the same bytes twice, and no zeros in their place', () => {
    const seen = new Set<string>();
    for (let round = 0; round < 5000; round += 1) {
      const count = 16 + (round % 5) * 8;
      const bytes = systemRandom.bytes(count);
      expect(bytes).toHaveLength(count);
      expect(bytes.some((byte) => byte !== 0)).toBe(true);
      seen.add(Buffer.from(bytes).toString('hex'));
    }
    expect(seen.size).toBe(5000);
  });

  it('gives bytes that stay as they are and are written to by nobody', () => {
    const first = systemRandom.bytes(32);
    const copy = Uint8Array.from(first);
    for (let round = 0; round < 1000; round += 1) systemRandom.bytes(32).fill(255);
    expect(first).toEqual(copy);
    expect(first.buffer.byteLength).toBe(32);
  });

  it('gives as much as is asked for', () => {
    for (const count of [0, 1, 511, 512, 513, 10_000]) expect(systemRandom.bytes(count)).toHaveLength(count);
  });

  it('has all bits equally often', () => {
    const ones = new Array<number>(64).fill(0);
    for (let round = 0; round < 4000; round += 1) {
      const bytes = systemRandom.bytes(8);
      for (let bit = 0; bit < 64; bit += 1) {
        if ((((bytes[bit >> 3] as number) >> (bit & 7)) & 1) === 1) ones[bit] = (ones[bit] as number) + 1;
      }
    }
    // Six standard deviations.
    for (const count of ones) expect(Math.abs(count - 2000)).toBeLessThan(190);
  });
});
