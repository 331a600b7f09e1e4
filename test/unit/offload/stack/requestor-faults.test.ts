/**
 * Stacks whose members fail, idle, shorten and refuse at random: a write ends with everything in place, or
 * with an error and as much in place as it says. It always ends.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isVhdkitError, VhdkitError } from '../../../../src/base/errors.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import type { FailureScope, OffloadWriteResult } from '../../../../src/offload/offload-provider.js';
import type { StackMember } from '../../../../src/offload/stack/provider-stack.js';
import { offloadReadAll, withReadLimits } from '../../../../src/offload/stack/requestor-read.js';
import { offloadWriteAll, type WriteAllOptions } from '../../../../src/offload/stack/requestor-write.js';
import { TokenSet } from '../../../../src/offload/token-set.js';
import { fakeProvider } from '../../../support/offload-fakes.js';
import { DeviceFile, HandClock, newManager, newStack, pattern } from '../../../support/stack-kit.js';

const SIZE = 64 * 1024;
const MAX_CALLS = 5000;

type Deed = 'work' | 'short' | 'idle' | 'refuse' | FailureScope;
const DEEDS: readonly Deed[] = [
  'work',
  'work',
  'work',
  'short',
  'short',
  'idle',
  'range',
  'files',
  'devices',
  'refuse',
];

interface Script {
  alignment: number;
  maxLength: number;
  boundary: number;
  /** What it does at each call, over and over. */
  deeds: readonly Deed[];
}

const script: fc.Arbitrary<Script> = fc.record({
  alignment: fc.constantFrom(1, 512, 4096),
  maxLength: fc.constantFrom(4096, 8192, 1 << 30),
  boundary: fc.integer({ min: 3000, max: SIZE * 2 }),
  deeds: fc.array(fc.constantFrom(...DEEDS), { minLength: 1, maxLength: 12 }),
});

function memberOf(
  { alignment, maxLength, boundary, deeds }: Script,
  index: number,
  clock: HandClock,
): StackMember {
  let calls = 0;
  const manager = newManager(clock);
  const inner = fakeProvider(manager, 'buffered', { alignment, maxLength });
  const provider = withReadLimits(inner, { boundary });
  const offloadWrite: typeof inner.offloadWrite = async (request): Promise<OffloadWriteResult> => {
    const deed = deeds[calls % deeds.length];
    calls += 1;
    clock.time += 1;
    if (calls > MAX_CALLS) throw new Error('it does not end');
    if (deed === 'work') return inner.offloadWrite(request);
    if (deed === 'short') {
      const length = Math.max(alignment, Math.floor(request.length / 2 / alignment) * alignment);
      return inner.offloadWrite({ ...request, length: Math.min(length, request.length) });
    }
    if (deed === 'idle') return { status: 'done', length: 0 };
    if (deed === 'refuse') throw new VhdkitError('TOKEN_INVALID', 'no', { context: { reason: 'revoked' } });
    return { status: 'unsupported', reason: `${deed} fails`, ...(deed ? { scope: deed } : {}) };
  };
  return { id: `m${index}`, provider: { ...provider, offloadWrite } };
}

const options: fc.Arbitrary<WriteAllOptions> = fc.oneof(
  fc.constant({}),
  fc.record({ skip: fc.integer({ min: 0, max: 2 }) }),
  fc.record({ order: fc.constant('latency' as const) }),
  fc.record({ id: fc.constantFrom('m0', 'm1') }),
);

const piece = fc.record({ from: fc.nat(SIZE - 1), count: fc.integer({ min: 1, max: SIZE }) });
const ENDS = new Set(['OFFLOAD_UNSUPPORTED', 'TOKEN_INVALID', 'INVALID_ARGUMENT']);

describe('a stack of unreliable providers', () => {
  it('writes the right bytes, up to where it says', async () => {
    const scripts = fc.array(script, { minLength: 1, maxLength: 3 });
    const pieces = fc.array(piece, { minLength: 1, maxLength: 3 });
    let [whole, partly] = [0, 0];
    await fc.assert(
      fc.asyncProperty(scripts, options, pieces, fc.nat(5000), async (members, choice, wanted, to) => {
        const clock = new HandClock();
        const stack = newStack(
          members.map((each, index) => memberOf(each, index, clock)),
          clock,
        );
        const source = new DeviceFile(pattern(SIZE), 1);
        const set = await offloadReadAll(
          stack,
          source,
          { offset: 0, length: SIZE },
          { mode: 'point-in-time' },
        );
        const cuts = wanted.map(({ from, count }) => [from, Math.min(count, SIZE - from)] as const);
        const mixed = TokenSet.concat(cuts.map(([from, count]) => set.slice(from, count)));
        const expected = Buffer.concat(
          cuts.map(([from, count]) => pattern(SIZE).subarray(from, from + count)),
        );
        const target = new MemoryFile(new Uint8Array(0));
        let done = 0;
        const onProgress = (bytes: number): void => {
          expect(bytes).toBeGreaterThan(done);
          done = bytes;
        };
        try {
          const result = await offloadWriteAll(stack, mixed, target, to, { ...choice, onProgress });
          expect([result.length, done]).toEqual([expected.length, expected.length]);
          expect(Object.values(result.by).reduce((sum, bytes) => sum + bytes, 0)).toBe(expected.length);
          whole += 1;
        } catch (error) {
          if (!isVhdkitError(error) || !ENDS.has(error.code)) throw error;
          if (error.code === 'OFFLOAD_UNSUPPORTED') expect(error.context.done).toBe(done);
          partly += 1;
        }
        const written = target.bytes().subarray(to, to + done);
        expect(Buffer.compare(written, expected.subarray(0, done))).toBe(0);
      }),
      { numRuns: 250, endOnFailure: true },
    );
    // Both ends were seen.
    expect(Math.min(whole, partly)).toBeGreaterThan(0);
  });
});
