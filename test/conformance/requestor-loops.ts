/**
 * What requestors may expect of every provider: that a range can be put together out of whatever it gives,
 * and that tokens may be used in parts and in another order.
 *
 * A provider with an alignment does what is on it; the rest is an error that says how far it came, and
 * everything up to there is right.
 */
import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { isVhdkitError } from '../../src/base/errors.js';
import { systemRandom } from '../../src/base/random.js';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';
import type { OffloadProvider } from '../../src/offload/offload-provider.js';
import type { ProviderStack } from '../../src/offload/stack/provider-stack.js';
import { offloadReadAll, withReadLimits } from '../../src/offload/stack/requestor-read.js';
import { offloadWriteAll } from '../../src/offload/stack/requestor-write.js';
import { TokenManager } from '../../src/offload/token-manager.js';
import { TokenSet } from '../../src/offload/token-set.js';
import { newStack, shortened } from '../support/stack-kit.js';
import type { OffloadSubject } from './offload-provider.suite.js';

const BLOCK = 4096;
const SIZE = 40 * BLOCK;
const PIT = { mode: 'point-in-time' } as const;

interface Scene {
  stack: ProviderStack;
  source: RandomAccessFile;
  target: RandomAccessFile;
  data: Buffer;
  before: Buffer;
}

async function scene(
  subject: OffloadSubject,
  change: (provider: OffloadProvider) => OffloadProvider = (provider) => provider,
): Promise<Scene> {
  const manager = new TokenManager({ clock: { now: () => 0 }, random: systemRandom });
  const [data, before] = [randomBytes(SIZE), randomBytes(SIZE)];
  return {
    stack: newStack([{ id: 'subject', provider: change(subject.provider(manager)) }]),
    source: await subject.file(data),
    target: await subject.file(before),
    data,
    before,
  };
}

async function contentOf(file: RandomAccessFile): Promise<Buffer> {
  const bytes = Buffer.alloc(file.size());
  await file.read(bytes, 0);
  return bytes;
}

/** Writes the set to the target at `to`; bytes done, which is all of it where the provider takes any range. */
async function put({ stack, target }: Scene, set: TokenSet, to: number): Promise<number> {
  try {
    return (await offloadWriteAll(stack, set, target, to)).length;
  } catch (error) {
    if (!isVhdkitError(error) || error.code !== 'OFFLOAD_UNSUPPORTED') throw error;
    return Number(error.context.done);
  }
}

/** The target is what it was, but for `done` bytes of these. */
async function expectWritten(at: Scene, bytes: Buffer, to: number, done: number): Promise<void> {
  const expected = Buffer.concat([at.before, Buffer.alloc(Math.max(0, to + done - at.before.length))]);
  bytes.copy(expected, to, 0, done);
  expect(Buffer.compare(await contentOf(at.target), expected)).toBe(0);
}

export function describeRequestorLoops(subject: OffloadSubject): void {
  it.each([{ maxLength: 3 * BLOCK }, { boundary: 5 * BLOCK }, { maxLength: 4 * BLOCK, boundary: 7 * BLOCK }])(
    'short reads: many tokens for one range, %j',
    async (limits) => {
      const at = await scene(subject, (provider) => withReadLimits(provider, limits));
      const range = { offset: 2 * BLOCK, length: 30 * BLOCK };
      const set = await offloadReadAll(at.stack, at.source, range, PIT);
      expect(set.length).toBe(range.length);
      expect(set.parts.length).toBeGreaterThan(5);
      expect(await put(at, TokenSet.fromBytes(set.toBytes()), BLOCK)).toBe(range.length);
      await expectWritten(at, at.data.subarray(2 * BLOCK, 32 * BLOCK), BLOCK, range.length);
    },
  );

  it('short writes: goes on from wherever it stopped', async () => {
    const at = await scene(subject, (provider) => shortened(provider, 3 * BLOCK));
    const set = await offloadReadAll(at.stack, at.source, { offset: 0, length: SIZE }, PIT);
    expect(await put(at, set, 0)).toBe(SIZE);
    await expectWritten(at, at.data, 0, SIZE);
  });

  it.each([
    [1, 30_000, 77, 1000],
    [700, 50_001, BLOCK + 700, 4 * BLOCK],
    [BLOCK - 1, 20_000, 2 * BLOCK, 5000],
  ])('off any alignment, %i + %i to %i: right as far as it goes', async (from, length, to, boundary) => {
    const at = await scene(subject, (provider) => withReadLimits(provider, { boundary }));
    const set = await offloadReadAll(at.stack, at.source, { offset: from, length }, PIT);
    expect(set.length).toBe(length);
    const done = await put(at, set, to);
    const { alignment } = at.stack.member('subject').provider.capabilities(at.source, at.target);
    if (alignment === 1) expect(done).toBe(length);
    await expectWritten(at, at.data.subarray(from, from + length), to, done);
  });

  it('tokens in another order, and some of them twice', async () => {
    const at = await scene(subject, (provider) => withReadLimits(provider, { maxLength: 8 * BLOCK }));
    const set = await offloadReadAll(at.stack, at.source, { offset: 0, length: SIZE }, PIT);
    const ranges = [
      [24, 10],
      [0, 4],
      [6, 12],
      [24, 2],
      [3, 5],
    ].map(([first = 0, count = 0]) => [first * BLOCK, count * BLOCK] as const);
    const mixed = TokenSet.concat(ranges.map(([offset, length]) => set.slice(offset, length)));
    const expected = Buffer.concat(
      ranges.map(([offset, length]) => at.data.subarray(offset, offset + length)),
    );
    expect(await put(at, TokenSet.fromBytes(mixed.toBytes()), 2 * BLOCK)).toBe(expected.length);
    await expectWritten(at, expected, 2 * BLOCK, expected.length);
  });
}
