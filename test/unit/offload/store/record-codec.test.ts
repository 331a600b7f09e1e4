/** The encoding of token records: exact both ways, and nothing else is taken for a record. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isVhdkitError } from '../../../../src/base/errors.js';
import {
  decodeRecord,
  encodeRecord,
  MAX_RECORD_BYTES,
  RECORD_VERSION,
} from '../../../../src/offload/store/record-codec.js';
import type { TokenRecord } from '../../../../src/offload/store/token-store.js';
import { sampleRecord } from '../../../conformance/token-store.suite.js';

const count = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const time = fc.double({ min: 0, max: 1e15, noNaN: true }).map((value) => value + 0);
const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const text = fc.string({ unit: 'grapheme', maxLength: 200 });

const records = fc.record(
  {
    id: fc.constant('0123456789abcdef'),
    random: fc
      .uint8Array({ minLength: 32, maxLength: 32 })
      .map((bytes) => Buffer.from(bytes).toString('hex')),
    mode: fc.constantFrom('point-in-time' as const, 'change-vulnerable' as const, 'persistent' as const),
    path: text,
    offset: count,
    length: count,
    ttl: time,
    created: time,
    lastUsed: time,
    revoked: fc.boolean(),
    fingerprint: fc.record({ device: i64, inode: i64, size: i64, mtime: i64, ctime: i64 }),
    expires: time,
    priority: fc.integer(),
    keptPath: text,
    keptBytes: count,
    keptGroup: text,
    system: text,
    usedUntil: time,
    leaving: fc.boolean(),
    owner: fc.record(
      { host: text, pid: count, started: text, until: time },
      { requiredKeys: ['host', 'pid'] },
    ),
    labels: fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), fc.string({ maxLength: 20 }), {
      maxKeys: 5,
      noNullPrototype: true,
    }),
  },
  {
    requiredKeys: [
      'id',
      'random',
      'mode',
      'path',
      'offset',
      'length',
      'ttl',
      'created',
      'lastUsed',
      'revoked',
    ],
  },
);

function decodeOrReason(bytes: Uint8Array): TokenRecord | unknown {
  try {
    return decodeRecord('0123456789abcdef', bytes, 'store');
  } catch (error) {
    if (!isVhdkitError(error)) throw error;
    return error.context.reason;
  }
}

describe('the encoding of token records', () => {
  it('gives every record back', () => {
    fc.assert(
      fc.property(records, (record) => {
        expect(decodeOrReason(encodeRecord(record))).toEqual(record);
      }),
    );
  });

  it('refuses what was cut or is no record at all', () => {
    const bytes = encodeRecord(sampleRecord('0123456789abcdef'));
    for (let length = 0; length < bytes.length; length += 1)
      expect(decodeOrReason(bytes.subarray(0, length))).toBe('damaged');
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (random) => {
        expect(['damaged', 'newer-version']).toContain(decodeOrReason(random));
      }),
    );
  });

  it.each([
    ['negative offset', { offset: -1 }],
    ['length beyond what a number holds', { length: 2 ** 60 }],
    ['mode of another kind', { mode: 'zero' as never }],
    ['time that is none', { lastUsed: Number.NaN }],
    ['owner without process', { owner: { host: 'a' } as never }],
    ['label that is no text', { labels: { a: 1 } as never }],
    ['path that is no text', { path: 1 as never }],
    ['record without a path', { path: undefined as never }],
  ])('refuses a %s', (_, change) => {
    const record = { ...sampleRecord('0123456789abcdef'), ...(change as object) };
    expect(decodeOrReason(encodeRecord(record as TokenRecord))).toBe('damaged');
  });

  it('refuses what has another meaning to come', () => {
    for (const [at, value] of [
      [1, 3],
      [2, 4],
      [3, 1],
    ] as const) {
      const bytes = encodeRecord(sampleRecord('0123456789abcdef'));
      bytes[at] = value;
      expect(decodeOrReason(bytes)).toBe('damaged');
    }
  });

  it('refuses a field that nobody knows', () => {
    const known = encodeRecord({ ...sampleRecord('0123456789abcdef'), leaving: true });
    const text = Buffer.from(known).toString('latin1');
    expect(text).toContain('"leaving"');
    for (const other of ['unknown', 'toString', '__proto__']) {
      const changed = Buffer.from(text.replace('"leaving"', `"${other}"`), 'latin1');
      expect(decodeOrReason(changed)).toBe('damaged');
    }
  });

  it('knows a later version, and its own limits', () => {
    const bytes = encodeRecord(sampleRecord('0123456789abcdef'));
    bytes[0] = RECORD_VERSION + 1;
    expect(decodeOrReason(bytes)).toBe('newer-version');
    bytes[0] = RECORD_VERSION - 1;
    expect(decodeOrReason(bytes)).toBe('damaged');
    const long = { ...sampleRecord('a'), path: 'x'.repeat(MAX_RECORD_BYTES) };
    expect(() => encodeRecord(long)).toThrow(RangeError);
    expect(() => encodeRecord({ ...sampleRecord('a'), labels: { a: 'x'.repeat(5000) } })).toThrow(RangeError);
    for (const random of ['ab'.repeat(31), 'ab'.repeat(33), `${'ab'.repeat(31)}zz`])
      expect(() => encodeRecord({ ...sampleRecord('a'), random })).toThrow(RangeError);
  });
});
