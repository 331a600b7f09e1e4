/** The bytes of auxiliary tokens: checksums are proof, hashes are not, and kinds to come are passed on. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type AuxiliaryFields,
  decodeAuxiliary,
  encodeAuxiliary,
  isAuxiliary,
  placeId,
  primaryDigest,
} from '../../../../src/offload/auxiliary/auxiliary-codec.js';
import { Token } from '../../../../src/offload/token.js';
import { decodeToken, encodeToken, inspectToken, ZERO_TOKEN } from '../../../../src/offload/token-codec.js';
import { crcByDefinition, cut, sha256 } from '../../../support/auxiliary-kit.js';
import { seededBytes } from '../../../support/sample-disk.js';

const KiB = 1024;
const key = new Uint8Array(32).fill(9);
const otherKey = new Uint8Array(32).fill(10);
const data = seededBytes(200 * KiB, 1);
const primary = encodeToken(
  {
    mode: 'change-vulnerable',
    id: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
    creator: Uint8Array.of(0x30, 1, 1, 1, 1, 1, 1, 1),
    length: data.length,
    random: new Uint8Array(32).fill(7),
  },
  key,
);
const common = {
  length: data.length,
  primary: Uint8Array.from(primaryDigest(primary)),
  primaryId: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
};

function checksums(): AuxiliaryFields {
  const list = Uint8Array.from(Buffer.concat(cut(data, 64 * KiB).map(crcByDefinition)));
  const listDigest = Uint8Array.from(sha256(list));
  return {
    ...common,
    kind: 'checksum',
    blockSize: 64 * KiB,
    phase: 0,
    list,
    listDigest,
    place: undefined,
  };
}

function hashes(): AuxiliaryFields {
  const list = Uint8Array.from(Buffer.concat(cut(data, 128 * KiB, 512).map(sha256)));
  const place = { id: Uint8Array.from(placeId(key, '/images/secret-name.img')), offset: 0x1_0000_2000 };
  const listDigest = Uint8Array.from(sha256(list));
  return { ...common, kind: 'hash', blockSize: 128 * KiB, phase: 512, list, listDigest, place };
}

function flipped(token: Token, bit: number): Token {
  const bytes = token.toBytes();
  bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return new Token(bytes);
}

function plain(fields: AuxiliaryFields): unknown {
  return JSON.parse(
    JSON.stringify(fields, (_name, value: unknown) =>
      value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
    ),
  );
}

describe('auxiliary tokens', () => {
  it.each([
    ['checksums', checksums()],
    ['hashes', hashes()],
  ])('%s are decoded as they were encoded, and name no path', (_name, fields) => {
    const token = encodeAuxiliary(fields, key);
    const decoded = decodeAuxiliary(token, key);
    expect(decoded?.kind).toBe('known');
    if (decoded?.kind === 'known') expect(plain(decoded.fields)).toEqual(plain(fields));
    expect(Buffer.from(token.toBytes()).includes('secret-name')).toBe(false);
    expect(Buffer.from(token.toBytes()).includes(Buffer.alloc(32, 7))).toBe(false);
  });

  it('refuses a checksum token with any bit flipped', () => {
    const token = encodeAuxiliary(checksums(), key);
    for (let bit = 0; bit < 512 * 8; bit += 1) {
      const decoded = decodeAuxiliary(flipped(token, bit), key);
      expect(decoded === undefined || decoded.kind === 'refused', `bit ${bit}`).toBe(true);
    }
  });

  it('refuses a damaged hash token', () => {
    const token = encodeAuxiliary(hashes(), key);
    for (let bit = 0; bit < 512 * 8; bit += 7) {
      const kind = decodeAuxiliary(flipped(token, bit), key)?.kind;
      expect(kind === undefined || kind === 'refused', `bit ${bit}`).toBe(true);
    }
  });

  it('tells checksums of another store from altered ones; hashes need no store', () => {
    const theirs = encodeAuxiliary(checksums(), otherKey);
    expect(decodeAuxiliary(theirs, key)).toMatchObject({ kind: 'refused', reason: 'foreign' });
    expect(decodeAuxiliary(theirs, undefined)).toMatchObject({ kind: 'refused', reason: 'foreign' });
    const altered = flipped(encodeAuxiliary(checksums(), key), 200 * 8);
    expect(decodeAuxiliary(altered, key)).toMatchObject({ kind: 'refused', reason: 'forged' });
    expect(decodeAuxiliary(encodeAuxiliary(hashes(), otherKey), key)?.kind).toBe('known');
    expect(decodeAuxiliary(encodeAuxiliary(hashes(), otherKey), undefined)?.kind).toBe('known');
  });

  it('knows which tokens are auxiliary; those are no tokens for data', () => {
    const token = encodeAuxiliary(checksums(), key);
    expect([isAuxiliary(token), isAuxiliary(primary), isAuxiliary(ZERO_TOKEN)]).toEqual([true, false, false]);
    expect(inspectToken(token)).toBeUndefined();
    expect(decodeToken(token, key).kind).toBe('refused');
    expect(decodeAuxiliary(primary, key)).toBeUndefined();
  });

  it('passes on kinds that it does not know', () => {
    const bytes = new Uint8Array(512).fill(0x5a);
    new DataView(bytes.buffer).setUint32(0, 0xfffffff7);
    new DataView(bytes.buffer).setUint16(6, 0x1f8);
    expect(decodeAuxiliary(new Token(bytes), key)).toEqual({ kind: 'unknown' });
  });

  it('refuses hash tokens whose numbers contradict each other, whoever made them', () => {
    const at: [number, number[]][] = [
      [48, [1]],
      [56, [1]],
      [64, [0, 0, 0, 1]],
      [64, [0, 1, 0, 1]],
      [64, [0x80, 0, 0, 0]],
      [68, [0, 0, 0, 9]],
      [72, [0, 0, 0, 0, 0, 2, 0, 0]],
      [192, [1]],
    ];
    fc.assert(
      fc.property(fc.constantFrom(...at), ([offset, change]) => {
        const bytes = encodeAuxiliary(hashes(), key).toBytes();
        bytes.set(change, offset);
        bytes.set(sha256(bytes.subarray(0, 480)), 480);
        expect(decodeAuxiliary(new Token(bytes), key)).toMatchObject({
          kind: 'refused',
          reason: 'malformed',
        });
      }),
    );
  });
});
