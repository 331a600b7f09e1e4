import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  guidFromBytes,
  guidFromMixedEndian,
  guidToBytes,
  guidToMixedEndian,
  normalizeGuid,
} from '../../../src/base/guid.js';
import { randomGuid } from '../../../src/base/random.js';

describe('guid', () => {
  it('reads the BAT region id from its bytes on disk', () => {
    const bytes = Buffer.from('6677c22d23f600429d64115e9bfd4a08', 'hex');
    expect(guidFromMixedEndian(bytes)).toBe('2dc27766-f623-4200-9d64-115e9bfd4a08');
    expect(guidFromBytes(bytes)).toBe('6677c22d-23f6-0042-9d64-115e9bfd4a08');
  });

  it('round-trips in both byte orders', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        expect(guidToMixedEndian(guidFromMixedEndian(bytes))).toEqual(bytes);
        expect(guidToBytes(guidFromBytes(bytes))).toEqual(bytes);
      }),
    );
  });

  it('normalises text', () => {
    expect(normalizeGuid(' {2DC27766-F623-4200-9D64-115E9BFD4A08} ')).toBe(
      '2dc27766-f623-4200-9d64-115e9bfd4a08',
    );
    expect(normalizeGuid('2DC27766')).toBeUndefined();
    expect(normalizeGuid('')).toBeUndefined();
  });

  it('marks random ids as version 4', () => {
    const guid = randomGuid({ bytes: (count) => new Uint8Array(count).fill(0xff) });
    expect(guid).toBe('ffffffff-ffff-4fff-bfff-ffffffffffff');
  });
});
