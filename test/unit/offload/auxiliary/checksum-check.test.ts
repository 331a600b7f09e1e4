/** Data against checksums: every whole chunk is judged, and what is cut is told apart. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AuxiliaryFields } from '../../../../src/offload/auxiliary/auxiliary-codec.js';
import { type CheckedPart, ChecksumCheck } from '../../../../src/offload/auxiliary/checksum-check.js';
import type { SumList } from '../../../../src/offload/auxiliary/sums-file.js';
import { checksumGrid, crcByDefinition, cut, sha256 } from '../../../support/auxiliary-kit.js';
import { seededBytes } from '../../../support/sample-disk.js';

const CHUNK = 64 * 1024;
const LENGTH = 3 * CHUNK + 1000;
const token = seededBytes(LENGTH, 5);
const sums = Buffer.concat(cut(token, CHUNK).map(crcByDefinition));
const list: SumList = { read: async (first, end) => sums.subarray(first * 4, end * 4) };
const fields: AuxiliaryFields = {
  ...checksumGrid(LENGTH),
  kind: 'checksum',
  primary: new Uint8Array(32),
  primaryId: new Uint8Array(8),
  listDigest: sha256(sums),
  list: undefined,
  place: undefined,
};

interface Piece {
  kind: 'sums' | 'zero' | 'unknown';
  tokenOffset: number;
  length: number;
}

const piece: fc.Arbitrary<Piece> = fc
  .record({
    kind: fc.constantFrom<Piece['kind']>('sums', 'sums', 'zero', 'unknown'),
    tokenOffset: fc.oneof(fc.constantFrom(0, CHUNK), fc.nat(LENGTH - 1)),
  })
  .chain((part) =>
    fc
      .oneof(fc.constant(LENGTH - part.tokenOffset), fc.integer({ min: 1, max: LENGTH - part.tokenOffset }))
      .map((length) => ({ ...part, length })),
  );

/** What is to be checked, the data that is right, and which of its bytes anything is known of. */
function layOut(pieces: readonly Piece[]) {
  const parts: CheckedPart[] = [];
  const data: Uint8Array[] = [];
  const known: Uint8Array[] = [];
  let offset = 0;
  for (const { kind, tokenOffset, length } of pieces) {
    const expected: CheckedPart['expected'] =
      kind === 'sums' ? { kind, fields, list, tokenOffset } : { kind };
    parts.push({ offset, length, expected });
    data.push(kind === 'zero' ? new Uint8Array(length) : token.subarray(tokenOffset, tokenOffset + length));
    const mask = new Uint8Array(length).fill(kind === 'zero' ? 1 : 0);
    for (let start = 0; kind === 'sums' && start < LENGTH; start += CHUNK) {
      const stop = Math.min(LENGTH, start + CHUNK);
      if (start >= tokenOffset && stop <= tokenOffset + length)
        mask.fill(1, start - tokenOffset, stop - tokenOffset);
    }
    known.push(mask);
    offset += length;
  }
  return { parts, data: Buffer.concat(data), known: Buffer.concat(known) };
}

async function check(parts: readonly CheckedPart[], data: Uint8Array, step: number) {
  const checker = new ChecksumCheck(parts);
  for (let at = 0; at < data.length; at += step) {
    const part = data.subarray(at, at + step);
    // Zeros may come without bytes.
    await checker.update(part.length, part.every((byte) => byte === 0) ? undefined : part);
  }
  return checker.result();
}

describe('checking data against checksums', () => {
  it('accepts what is right, and finds any byte that is not, as far as anything is known', async () => {
    const cases = fc.record({
      pieces: fc.array(piece, { minLength: 1, maxLength: 4 }),
      step: fc.constantFrom(4096, CHUNK, 100_000, 10_000_000),
      damage: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({ pieces, step, damage }) => {
        const { parts, data, known } = layOut(pieces);
        const checked = known.reduce((sum, byte) => sum + byte, 0);
        const right = { checked, unchecked: data.length - checked, wrong: 0, first: undefined };
        expect(await check(parts, data, step)).toEqual(right);
        const at = damage % data.length;
        data[at] = (data[at] ?? 0) ^ 0x10;
        const result = await check(parts, data, step);
        expect(result.wrong).toBe(known[at]);
        if (!result.first) return;
        const { offset, length, part, chunk } = result.first;
        expect(at >= offset && at < offset + length).toBe(true);
        const there = parts[part] as CheckedPart;
        expect(at >= there.offset && at < there.offset + there.length).toBe(true);
        if (there.expected.kind !== 'sums') return;
        const inToken = there.expected.tokenOffset + at - there.offset;
        expect(chunk).toBe(Math.floor(inToken / CHUNK));
      }),
      { numRuns: 60, endOnFailure: true },
    );
  });

  it('counts all chunks that are wrong and names the first', async () => {
    const { parts, data } = layOut([{ kind: 'sums', tokenOffset: 0, length: LENGTH }]);
    data[CHUNK + 5] = (data[CHUNK + 5] ?? 0) ^ 1;
    data[LENGTH - 1] = (data[LENGTH - 1] ?? 0) ^ 1;
    const { wrong, first } = await check(parts, data, 5000);
    expect(wrong).toBe(2);
    const found = crcByDefinition(data.subarray(CHUNK, 2 * CHUNK)).toString('hex');
    const expected = sums.subarray(4, 8).toString('hex');
    expect(first).toEqual({ part: 0, chunk: 1, offset: CHUNK, length: CHUNK, expected, found });
  });
});
