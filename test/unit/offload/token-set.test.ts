/**
 * Token sets against a model: a set is a list of bytes, each with the places from which it may come.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32c } from '../../../src/base/crc32c.js';
import type { Token } from '../../../src/offload/token.js';
import { encodeToken, ZERO_TOKEN } from '../../../src/offload/token-codec.js';
import { type AuxiliaryToken, type NewPart, TokenSet } from '../../../src/offload/token-set.js';
import { SET_LIMITS } from '../../../src/offload/token-set-model.js';

function makeToken(number: number): Token {
  const fields = {
    mode: 'point-in-time' as const,
    id: new Uint8Array(8).fill(number),
    creator: new Uint8Array(8),
    length: 1 << 20,
    random: new Uint8Array(32).fill(number),
  };
  return encodeToken(fields, new Uint8Array(32));
}

const TOKENS = [ZERO_TOKEN, ...Array.from({ length: 4 }, (_, index) => makeToken(index + 1))];
const NAMES = ['local', 'remote', 'c3'];

const choice = (provider: string) =>
  fc.record({
    provider: fc.constant(provider),
    token: fc.constantFrom(...TOKENS),
    tokenOffset: fc.integer({ min: 0, max: 30 }),
  });

const part: fc.Arbitrary<NewPart> = fc.record({
  length: fc.integer({ min: 1, max: 12 }),
  choices: fc
    .subarray(NAMES, { minLength: 1 })
    .chain((names) => fc.tuple(...names.map(choice)).map((choices) => [...choices])),
});

const set = fc
  .tuple(
    fc.array(part, { maxLength: 8 }),
    fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(9)), { maxLength: 4 }),
  )
  .map(([parts, places]) => {
    const length = parts.reduce((sum, next) => sum + next.length, 0);
    const auxiliary = places.flatMap(([a, b, seed]): AuxiliaryToken[] => {
      if (length === 0) return [];
      const offset = a % length;
      // Each with bytes of its own: two that are alike and overlap could be joined in more than one way.
      const bytes = Uint8Array.of(seed, a & 255, b & 255, a >>> 8);
      return [{ kind: 'crc32c', offset, length: 1 + (b % (length - offset)), tokenOffset: seed, bytes }];
    });
    return TokenSet.of(parts, auxiliary);
  });

/** What each byte of a set may come from. */
function model(subject: TokenSet): string[] {
  const bytes = subject.parts.flatMap(({ length, choices }) => {
    const ways = choices.map(({ provider, token, tokenOffset }) => {
      const name = TOKENS.findIndex((known) => Buffer.compare(known.toBytes(), token.toBytes()) === 0);
      return (index: number) => `${provider}:${name === 0 ? 'zero' : `${name}+${tokenOffset + index}`}`;
    });
    return Array.from({ length }, (_, index) => ways.map((way) => way(index)).join(' '));
  });
  for (const { kind, offset, length, tokenOffset, bytes: own } of subject.auxiliary) {
    for (let index = 0; index < length; index += 1) {
      bytes[offset + index] += `\n${kind}:${Buffer.from(own).toString('hex')}+${tokenOffset + index}`;
    }
  }
  return bytes.map((text) => text.split('\n').sort().join('|'));
}

const RUNS = { numRuns: 80, endOnFailure: true };

describe('a token set', () => {
  it('comes out of bytes as it went in', () => {
    fc.assert(
      fc.property(set, (subject) => {
        const again = TokenSet.fromBytes(subject.toBytes());
        expect(model(again)).toEqual(model(subject));
        expect(again.length).toBe(subject.length);
        expect(again.toBytes()).toEqual(subject.toBytes());
      }),
      RUNS,
    );
  });

  it('is the same after it was taken apart and put together', () => {
    fc.assert(
      fc.property(set, fc.array(fc.nat(), { maxLength: 5 }), (subject, cuts) => {
        const at = [0, ...cuts.map((cut) => cut % (subject.length + 1)), subject.length].sort(
          (a, b) => a - b,
        );
        const slices = at.slice(1).map((end, index) => subject.slice(at[index] ?? 0, end - (at[index] ?? 0)));
        const whole = TokenSet.concat(slices);
        expect(whole.toBytes()).toEqual(subject.toBytes());
      }),
      RUNS,
    );
  });

  it('cuts and joins as a list of bytes does, in any order', () => {
    const piece = fc.tuple(fc.nat(), fc.nat());
    fc.assert(
      fc.property(set, set, fc.array(piece, { maxLength: 5 }), (a, b, pieces) => {
        const both = TokenSet.concat([b, a]);
        const expected = [...model(b), ...model(a)];
        expect(model(both)).toEqual(expected);
        const ranges = pieces.map(([from, count]) => {
          const offset = from % (both.length + 1);
          return { offset, length: count % (both.length - offset + 1) };
        });
        const mixed = TokenSet.concat(ranges.map(({ offset, length }) => both.slice(offset, length)));
        expect(model(mixed)).toEqual(
          ranges.flatMap(({ offset, length }) => expected.slice(offset, offset + length)),
        );
      }),
      RUNS,
    );
  });

  it('has the tokens of all sets that it was laid over each other of', () => {
    fc.assert(
      fc.property(set, set, (a, b) => {
        const both = TokenSet.overlay([a, b]);
        expect(both.length).toBe(Math.max(a.length, b.length));
        const [ofA, ofB] = [model(a.withAuxiliary([])), model(b.withAuxiliary([]))];
        const expected = Array.from({ length: both.length }, (_, index) => {
          const ways = new Map<string, string>();
          for (const way of `${ofA[index] ?? ''} ${ofB[index] ?? ''}`.trim().split(' ')) {
            const [name = ''] = way.split(':');
            if (!ways.has(name)) ways.set(name, way);
          }
          return [...ways.values()].join(' ');
        });
        expect(model(both.withAuxiliary([]))).toEqual(expected);
        expect(TokenSet.overlay([a]).toBytes()).toEqual(a.toBytes());
        expect(model(TokenSet.overlay([a, TokenSet.of([])]))).toEqual(model(a));
      }),
      RUNS,
    );
  });

  it('gives the tokens of one provider where that offers everything', () => {
    fc.assert(
      fc.property(set, fc.constantFrom(...NAMES), (subject, name) => {
        const offered = subject.parts.every(({ choices }) =>
          choices.some(({ provider }) => provider === name),
        );
        const only = subject.only(name);
        expect(only !== undefined).toBe(offered);
        if (!only) return;
        expect(only.length).toBe(subject.length);
        expect(subject.length === 0 || only.providers.join() === name).toBe(true);
      }),
      RUNS,
    );
  });

  it('refuses ranges that it does not have', () => {
    const subject = TokenSet.of([
      { length: 10, choices: [{ provider: 'a', token: ZERO_TOKEN, tokenOffset: 0 }] },
    ]);
    for (const [offset, length] of [
      [0, 11],
      [11, 0],
      [-1, 2],
      [1, -1],
      [Number.NaN, 1],
      [2 ** 53, 2 ** 53],
    ] as const) {
      expect(() => subject.slice(offset, length)).toThrow(expect.objectContaining({ code: 'OUT_OF_RANGE' }));
    }
  });

  it('can not be changed from outside', () => {
    const bytes = Uint8Array.of(1, 2, 3);
    const auxiliary = [{ kind: 'x', bytes, offset: 0, length: 10, tokenOffset: 0 }];
    const choices = [{ provider: 'a', token: makeToken(1), tokenOffset: 0 }];
    const subject = TokenSet.of([{ length: 10, choices }], auxiliary);
    const before = subject.toBytes();
    bytes[0] = 9;
    choices.length = 0;
    (subject.auxiliary[0] as AuxiliaryToken).bytes[1] = 9;
    expect(() => Object.assign(subject.parts[0] as object, { length: 5 })).toThrow(TypeError);
    expect(() => (subject.parts as unknown as unknown[]).pop()).toThrow(TypeError);
    expect(subject.toBytes()).toEqual(before);
  });

  it('has no room for paths in names', () => {
    for (const provider of ['/dev/sda', 'a.b', '', 'Local', 'x'.repeat(32)]) {
      const make = () =>
        TokenSet.of([{ length: 1, choices: [{ provider, token: ZERO_TOKEN, tokenOffset: 0 }] }]);
      expect(make, provider).toThrow('not a name');
    }
  });
});

/** Corrects the checksum, so that what lies behind it is looked at. */
function sealed(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer);
  if (bytes.length < 40) return bytes;
  view.setUint32(36, 0);
  view.setUint32(36, crc32c(bytes));
  return bytes;
}

const refused = expect.objectContaining({ code: 'TOKEN_INVALID', context: { reason: 'malformed' } });

describe('bytes that are no token set', () => {
  const sample = TokenSet.of(
    [
      { length: 5, choices: [{ provider: 'a', token: makeToken(1), tokenOffset: 7 }] },
      {
        length: 6,
        choices: [
          { provider: 'a', token: makeToken(2), tokenOffset: 0 },
          { provider: 'b', token: makeToken(3), tokenOffset: 1 },
        ],
      },
    ],
    [{ kind: 'sha-256', bytes: new Uint8Array(32).fill(4), offset: 2, length: 9, tokenOffset: 0 }],
  ).toBytes();

  it('are refused with any bit flipped, and cut or extended anywhere', () => {
    for (let at = 0; at < sample.length; at += 1) {
      const bytes = Uint8Array.from(sample);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
      expect(() => TokenSet.fromBytes(bytes), `byte ${at}`).toThrow(refused);
      expect(() => TokenSet.fromBytes(sample.slice(0, at)), `length ${at}`).toThrow(refused);
    }
    expect(() => TokenSet.fromBytes(Uint8Array.of(...sample, 0))).toThrow(refused);
  });

  it('are refused, or a sound set, whatever hostile hands put into them', () => {
    const edit = fc.tuple(fc.nat(sample.length - 1), fc.constantFrom(0, 1, 2, 3, 0x7f, 0x80, 0xff));
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        const bytes = Uint8Array.from(sample);
        for (const [at, value] of edits) bytes[at] = value;
        let read: TokenSet;
        try {
          read = TokenSet.fromBytes(sealed(bytes));
        } catch (error) {
          expect(error).toEqual(refused);
          return;
        }
        expect(TokenSet.fromBytes(read.toBytes()).toBytes()).toEqual(read.toBytes());
        expect(Number.isSafeInteger(read.length)).toBe(true);
      }),
      { numRuns: 400, endOnFailure: true },
    );
  });

  it.each([12, 16, 20, 24, 28, 32])('ask for no memory by the count at %i', (at) => {
    for (const count of [0xffffffff, 0x7fffffff, 65_536, 17]) {
      const bytes = Uint8Array.from(sample);
      new DataView(bytes.buffer).setUint32(at, count);
      expect(() => TokenSet.fromBytes(sealed(bytes))).toThrow(refused);
    }
  });

  it('are no larger than a set may be', () => {
    const choices = [{ provider: 'a', token: ZERO_TOKEN, tokenOffset: 0 }];
    const other = [{ provider: 'b', token: ZERO_TOKEN, tokenOffset: 0 }];
    const parts = function* (): Generator<NewPart> {
      for (let index = 0; index <= SET_LIMITS.parts; index += 1) {
        yield { length: 1, choices: index % 2 ? choices : other };
      }
    };
    expect(() => TokenSet.of(parts())).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
    const large = { kind: 'x', offset: 0, length: 1, tokenOffset: 0 };
    const bytes = new Uint8Array(SET_LIMITS.auxiliaryBytes + 1);
    expect(() => TokenSet.of([{ length: 1, choices }], [{ ...large, bytes }])).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED' }),
    );
  });
});
