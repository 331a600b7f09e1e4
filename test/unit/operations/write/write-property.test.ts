/** `write` against a byte model: any offset, any length, in any chunks, into every kind of image. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openChain } from '../../../../src/formats/chain.js';
import { CrashDisk } from '../../../support/crash-disk.js';
import { seededBytes } from '../../../support/sample-disk.js';
import { contentOf, expectSame, hostOf, type Step } from '../merge/chains.js';
import { diskWith, KINDS, PARENT, TOP, writeTo } from './streams.js';

const SIZE = 3 * 1024 * 1024 + 512 * 5;
const STEPS: Step[] = [
  { kind: 'write', at: 0.1, sectors: 1500, fill: 1 },
  { kind: 'write', at: 0.5, sectors: 30, fill: 2 },
  { kind: 'zero', at: 0.2, sectors: 400, fill: 3 },
];

interface Request {
  offset: number;
  length: number;
  /** A run of zeros in the stream, as shares of it. */
  hole: [number, number];
  lengths: number[];
  zeros: 'data' | 'scan';
  declared: boolean;
}

const share = fc.double({ min: 0, max: 0.9999, noNaN: true });
const request: fc.Arbitrary<Request> = fc
  .record({
    at: share,
    aligned: fc.boolean(),
    length: fc.oneof(
      fc.integer({ min: 1, max: 3000 }),
      fc.integer({ min: 1, max: 200_000 }),
      fc.integer({ min: 1, max: SIZE }),
    ),
    hole: fc.tuple(share, share),
    lengths: fc.array(
      fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.constant(65536), fc.constant(2_000_000)),
      {
        minLength: 1,
        maxLength: 4,
      },
    ),
    zeros: fc.constantFrom('data' as const, 'scan' as const),
    declared: fc.boolean(),
  })
  .map(({ at, aligned, length, ...rest }) => {
    const offset = aligned ? Math.floor((at * SIZE) / 512) * 512 : Math.floor(at * SIZE);
    // Long streams in chunks of a few bytes would only take time.
    const lengths = length > 200_000 ? rest.lengths.map((each) => Math.max(each, 999)) : rest.lengths;
    return { ...rest, lengths, offset, length: Math.min(length, SIZE - offset) };
  });

function streamOf({ length, hole }: Request, seed: number): Buffer {
  const bytes = seededBytes(length, seed + 1);
  const [a, b] = hole.map((each) => Math.floor(each * length)) as [number, number];
  return bytes.fill(0, Math.min(a, b), Math.max(a, b));
}

describe.each(KINDS)('write into a $name', (kind) => {
  it('puts the stream where it belongs and nothing else anywhere', async () => {
    const fresh = await diskWith(kind, SIZE, STEPS);
    const parent = fresh.disk.files().get(PARENT);
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 4 }), async (requests) => {
        const disk = new CrashDisk(fresh.disk.files());
        const model = Buffer.from(fresh.model);
        for (const [index, each] of requests.entries()) {
          const bytes = streamOf(each, index);
          const { offset, zeros, lengths } = each;
          const result = await writeTo(disk, bytes, {
            offset,
            zeros,
            lengths,
            force: true,
            ...(each.declared ? { length: bytes.length } : {}),
          });
          expect(result).toMatchObject({ offset, length: bytes.length, virtualSize: SIZE, dryRun: false });
          bytes.copy(model, offset);
        }
        expectSame(await contentOf(hostOf(disk), TOP), model, 'written');
        if (parent) expect(Buffer.compare(disk.files().get(PARENT) ?? Buffer.of(), parent)).toBe(0);
        const chain = await openChain(hostOf(disk).fileSystem, TOP);
        const findings = [...(await chain.top.check()), ...chain.top.warnings];
        // A block that became zero leaves a gap, which the next one takes: no defect.
        const harmless = ['note', 'leak'];
        expect(findings.filter(({ severity }) => !harmless.includes(severity))).toEqual([]);
      }),
      { numRuns: 12 },
    );
  });
});
