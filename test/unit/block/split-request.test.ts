import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { splitRequest } from '../../../src/block/split-request.js';

describe('splitRequest', () => {
  it('adds up, aligns the body, and leaves less than a unit at the edges', () => {
    fc.assert(
      fc.property(
        fc.nat(1e6),
        fc.nat(1e5),
        fc.constantFrom(1, 512, 4096, 3, 65536),
        (offset, length, unit) => {
          const { head, body, tail } = splitRequest(offset, length, unit);
          expect(head + body + tail).toBe(length);
          expect(body % unit).toBe(0);
          if (body > 0) {
            expect((offset + head) % unit).toBe(0);
            expect(Math.max(head, tail)).toBeLessThan(unit);
          } else {
            // No whole unit fits, wherever one looks.
            expect(Math.ceil(offset / unit)).toBeGreaterThanOrEqual(Math.floor((offset + length) / unit));
            expect(tail).toBe(0);
          }
        },
      ),
    );
  });

  it.each([
    [0, 8192, { head: 0, body: 8192, tail: 0 }],
    [512, 8192, { head: 3584, body: 4096, tail: 512 }],
    [512, 4096, { head: 4096, body: 0, tail: 0 }],
    [4096, 0, { head: 0, body: 0, tail: 0 }],
    [2 ** 46, 4097, { head: 0, body: 4096, tail: 1 }],
  ])('%i + %i', (offset, length, expected) => {
    expect(splitRequest(offset, length, 4096)).toEqual(expected);
  });

  it('refuses an alignment that is none', () => {
    expect(() => splitRequest(0, 1, 0)).toThrow('alignment');
    expect(() => splitRequest(-1, 1, 1)).toThrow('byte count');
  });
});
