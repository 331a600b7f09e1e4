/** The bytes of a token: any altered bit makes it useless, and its layout is that of a ROD token. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TOKEN_BYTES, Token } from '../../../src/offload/token.js';
import { decodeToken, encodeToken, type TokenFields, ZERO_TOKEN } from '../../../src/offload/token-codec.js';

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const fields: fc.Arbitrary<TokenFields> = fc.record({
  mode: fc.constantFrom('point-in-time', 'change-vulnerable', 'persistent'),
  id: bytes(8),
  // The first half byte says "locally assigned".
  creator: bytes(8).map((creator) => creator.with(0, 0x30 | ((creator[0] ?? 0) & 15))),
  length: fc.maxSafeNat(),
  random: bytes(32),
});
const key = new Uint8Array(32).fill(9);

function flip(token: Token, bit: number): Token {
  const out = token.toBytes();
  out[bit >> 3] = (out[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return new Token(out);
}

const example: TokenFields = {
  mode: 'change-vulnerable',
  id: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
  creator: Uint8Array.of(0x3a, 11, 12, 13, 14, 15, 16, 17),
  length: 0x123456789a,
  random: new Uint8Array(32).fill(0xee),
};

describe('token codec', () => {
  it('decodes what it encoded', () => {
    fc.assert(
      fc.property(fields, (value) => {
        expect(decodeToken(encodeToken(value, key), key)).toEqual({ kind: 'data', fields: value });
      }),
    );
  });

  it('refuses every flipped bit', () => {
    const token = encodeToken(example, key);
    for (let bit = 0; bit < TOKEN_BYTES * 8; bit += 1) {
      expect(decodeToken(flip(token, bit), key).kind, `bit ${bit}`).toBe('refused');
    }
  });

  it('refuses every flipped bit of a zero token', () => {
    for (let bit = 0; bit < TOKEN_BYTES * 8; bit += 1) {
      expect(decodeToken(flip(ZERO_TOKEN, bit), key).kind, `bit ${bit}`).toBe('refused');
    }
  });

  it('refuses a token of another key, and what is no token', () => {
    const token = encodeToken(example, key);
    const other = new Uint8Array(32).fill(8);
    expect(decodeToken(token, other)).toEqual({ kind: 'refused', reason: 'forged' });
    expect(decodeToken(new Token(new Uint8Array(512)), key)).toEqual({
      kind: 'refused',
      reason: 'malformed',
    });
    expect(() => new Token(new Uint8Array(511))).toThrow('512');
  });

  it('puts the fields where SPC-4 has them, big-endian', () => {
    const hex = Buffer.from(encodeToken(example, key).toBytes()).toString('hex');
    const at = (offset: number, length: number): string => hex.slice(offset * 2, (offset + length) * 2);
    expect(at(0, 8)).toBe('00800001' + '0000' + '01f8');
    expect(at(8, 8)).toBe('0102030405060708');
    expect(at(16, 8)).toBe('e4000000' + '01030008');
    expect(at(24, 8)).toBe('3a0b0c0d0e0f1011');
    expect(at(48, 16)).toBe('0000000000000000000000123456789a');
    expect(at(64, 32)).toBe('00'.repeat(32));
    expect(at(96, 4)).toBe('00000200');
    expect(at(448, 32)).toBe('ee'.repeat(32));
  });

  it('knows both spellings of the zero token', () => {
    const zero = ZERO_TOKEN.toBytes();
    expect(Buffer.from(zero.subarray(0, 8)).toString('hex')).toBe('ffff0001000001f8');
    expect(zero.subarray(8).every((byte) => byte === 0)).toBe(true);
    const other = new Uint8Array(512);
    other.set([0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0xf8, 0, 1]);
    for (const token of [new Token(zero), new Token(other)]) {
      expect(decodeToken(token, key)).toEqual({ kind: 'zero' });
    }
    // "Zero with protection information" is another thing.
    expect(decodeToken(new Token(other.with(9, 2)), key).kind).toBe('refused');
  });

  it('tokens never change', () => {
    const raw = encodeToken(example, key).toBytes();
    const token = new Token(raw);
    raw.fill(0);
    token.toBytes().fill(0);
    expect(decodeToken(token, key).kind).toBe('data');
  });
});
