/**
 * Requestor loops over providers that give less than they were asked for.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Extent } from '../../../../src/block/extent.js';
import { StripedSource } from '../../../../src/block/striped-source.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import type { OffloadProvider } from '../../../../src/offload/offload-provider.js';
import {
  offloadReadAll,
  offloadReadDisk,
  type ReadLimits,
  withReadLimits,
} from '../../../../src/offload/stack/requestor-read.js';
import { offloadWriteAll } from '../../../../src/offload/stack/requestor-write.js';
import type { TokenManager } from '../../../../src/offload/token-manager.js';
import { TokenSet } from '../../../../src/offload/token-set.js';
import { type FakeOptions, fakeProvider } from '../../../support/offload-fakes.js';
import { memoryFile, newManager, newStack, pattern } from '../../../support/stack-kit.js';

const PIT = { mode: 'point-in-time' } as const;
const SIZE = 10_000;

interface Kit {
  manager: TokenManager;
  provider: OffloadProvider;
  stack: ReturnType<typeof newStack>;
}

function kit(limits: ReadLimits = {}, fake: FakeOptions = {}): Kit {
  const manager = newManager();
  const provider = withReadLimits(fakeProvider(manager, 'buffered', fake), limits);
  return { manager, provider, stack: newStack([{ id: 'one', provider }]) };
}

async function written(stack: Kit['stack'], set: TokenSet, at = 0): Promise<Uint8Array> {
  const target = new MemoryFile(new Uint8Array(0));
  const result = await offloadWriteAll(stack, set, target, at);
  expect(result.length).toBe(set.length);
  return target.bytes().slice(at);
}

describe('reading', () => {
  it.each([
    [{ maxLength: 3000 }, [3000, 3000, 3000, 1000]],
    [{ boundary: 4096 }, [3996, 4096, 1908]],
    [{ maxLength: 3000, boundary: 4096 }, [3000, 996, 3000, 1096, 1908]],
    [{}, [10_000]],
  ])('goes on until the range is covered: %j', async (limits, lengths) => {
    const { stack } = kit(limits);
    const file = memoryFile(20_000);
    const set = await offloadReadAll(stack, file, { offset: 100, length: SIZE }, PIT);
    expect(set.parts.map(({ length }) => length)).toEqual(lengths);
    expect(Buffer.compare(await written(stack, set), pattern(20_000).subarray(100, 100 + SIZE))).toBe(0);
  });

  it('ends where the file ends, and is out of range behind it', async () => {
    const { stack } = kit({ maxLength: 4096 });
    const file = memoryFile(SIZE);
    const at = (offset: number) => offloadReadAll(stack, file, { offset, length: 5000 }, PIT);
    expect((await at(6000)).length).toBe(4000);
    expect((await at(SIZE)).length).toBe(0);
    await expect(at(SIZE + 1)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
  });

  it('gives up after four answers without progress, and goes on after three', async () => {
    const { provider } = kit();
    for (const [empty, fine] of [
      [3, true],
      [4, false],
    ] as const) {
      let left = empty;
      const slow: OffloadProvider = {
        ...provider,
        offloadRead: async (file, range, options) => {
          left -= 1;
          return left >= 0 ? [] : provider.offloadRead(file, range, options);
        },
      };
      const reading = offloadReadAll(
        newStack([{ id: 'slow', provider: slow }]),
        memoryFile(SIZE),
        { offset: 0, length: SIZE },
        PIT,
      );
      if (fine) expect((await reading).length).toBe(SIZE);
      else await expect(reading).rejects.toMatchObject({ code: 'OFFLOAD_UNSUPPORTED' });
    }
  });

  it('takes a provider that answers with another range for broken', async () => {
    const { provider } = kit();
    const wrong: OffloadProvider = {
      ...provider,
      offloadRead: async (file, { offset, length }, options) =>
        provider.offloadRead(file, { offset: offset + 1, length: length - 1 }, options),
    };
    const reading = offloadReadAll(
      newStack([{ id: 'wrong', provider: wrong }]),
      memoryFile(SIZE),
      { offset: 0, length: SIZE },
      PIT,
    );
    await expect(reading).rejects.toThrow('a provider answers');
  });

  it('stops when cancelled', async () => {
    const { stack } = kit();
    const options = { ...PIT, signal: AbortSignal.abort() };
    const reading = offloadReadAll(stack, memoryFile(SIZE), { offset: 0, length: SIZE }, options);
    await expect(reading).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

describe('writing', () => {
  it('goes on after shortened lengths', async () => {
    const { stack } = kit({}, { shorten: (length) => Math.ceil(length / 3) });
    const set = await offloadReadAll(stack, memoryFile(SIZE), { offset: 0, length: SIZE }, PIT);
    const target = new MemoryFile(new Uint8Array(0));
    const seen: number[] = [];
    const result = await offloadWriteAll(stack, set, target, 77, { onProgress: (done) => seen.push(done) });
    expect(result).toMatchObject({ length: SIZE, by: { one: SIZE } });
    expect(result.requests).toBe(seen.length);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(SIZE);
    expect(Buffer.compare(target.bytes().subarray(77), pattern(SIZE))).toBe(0);
  });

  it('refuses a set with a bad token before anything is written', async () => {
    const { stack, manager } = kit({ maxLength: 5000 });
    const set = await offloadReadAll(stack, memoryFile(SIZE), { offset: 0, length: SIZE }, PIT);
    const last = set.parts.at(-1)?.choices[0]?.token;
    if (last) await manager.revoke(last);
    const target = new MemoryFile(new Uint8Array(0));
    await expect(offloadWriteAll(stack, set, target, 0)).rejects.toMatchObject({ code: 'TOKEN_INVALID' });
    expect(target.size()).toBe(0);
  });

  it('stops when cancelled between two requests, and says how far it came', async () => {
    const { stack } = kit({}, { maxLength: 1000 });
    const set = await offloadReadAll(stack, memoryFile(SIZE), { offset: 0, length: SIZE }, PIT);
    const stop = new AbortController();
    const target = new MemoryFile(new Uint8Array(0));
    let done = 0;
    const writing = offloadWriteAll(stack, set, target, 0, {
      signal: stop.signal,
      onProgress: (bytes) => {
        done = bytes;
        if (bytes >= 3000) stop.abort();
      },
    });
    await expect(writing).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(done).toBe(3000);
    expect(target.bytes()).toEqual(pattern(SIZE).slice(0, 3000));
  });

  it('does what it is told with the parts of a set: any order, any number of times, through bytes', async () => {
    const piece = fc.tuple(fc.nat(SIZE), fc.nat(SIZE));
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { minLength: 1, maxLength: 6 }),
        fc.record({
          maxLength: fc.integer({ min: 500, max: 20_000 }),
          boundary: fc.integer({ min: 300, max: 9000 }),
        }),
        async (pieces, limits) => {
          const { stack } = kit(limits, { shorten: (length) => Math.ceil(length * 0.7) });
          const set = await offloadReadAll(stack, memoryFile(SIZE), { offset: 0, length: SIZE }, PIT);
          const cut = pieces.map(([offset, length]) => set.slice(offset, Math.min(length, SIZE - offset)));
          const mixed = TokenSet.fromBytes(TokenSet.concat(cut).toBytes());
          const expected = Buffer.concat(
            pieces.map(([offset, length]) => pattern(SIZE).subarray(offset, Math.min(offset + length, SIZE))),
          );
          expect(Buffer.compare(await written(stack, mixed, 13), expected)).toBe(0);
        },
      ),
      { numRuns: 60, endOnFailure: true },
    );
  });
});

describe('disks whose bytes lie in several places', () => {
  it('needs one token for each file of a striped disk', async () => {
    const { stack } = kit();
    const files = [1, 2, 3].map((seed) => memoryFile(4096 * 5 + 100, seed));
    const disk = new StripedSource(files, 4096);
    expect(disk.virtualSize).toBe(15 * 4096);
    const range = { offset: 1000, length: 11 * 4096 };
    const set = await offloadReadDisk(stack, disk, range, PIT);
    const tokens = new Set(set.parts.flatMap(({ choices }) => choices.map(({ token }) => token)));
    expect(tokens.size).toBe(3);
    const expected = Buffer.concat(
      Array.from({ length: 15 }, (_, chunk) => {
        const at = Math.floor(chunk / 3) * 4096;
        return pattern(4096 * 6, 1 + (chunk % 3)).subarray(at, at + 4096);
      }),
    ).subarray(range.offset, range.offset + range.length);
    expect(Buffer.compare(await written(stack, set), expected)).toBe(0);
  });

  it('binds no byte that was not asked for', async () => {
    const { stack, manager } = kit();
    const disk = new StripedSource([memoryFile(SIZE, 1), memoryFile(SIZE, 2)], 512);
    const set = await offloadReadDisk(stack, disk, { offset: 700, length: 2000 }, PIT);
    let bound = 0;
    for (const token of new Set(set.parts.flatMap(({ choices }) => choices.map((choice) => choice.token)))) {
      const resolved = await manager.resolve(token);
      if (resolved.kind === 'data') bound += resolved.length;
    }
    expect(bound).toBe(2000);
  });

  it('goes over the boundaries of a chain, with zeros for what nobody stores', async () => {
    const { stack } = kit({ maxLength: 900 });
    const [child, parent] = [memoryFile(4000, 1), memoryFile(2500, 2)];
    const extents: Extent[] = [
      { state: 'data', offset: 0, length: 1000, file: parent, fileOffset: 500 },
      { state: 'data', offset: 1000, length: 500, file: child, fileOffset: 3500 },
      { state: 'zero', offset: 1500, length: 700 },
      // Its last block is cut off: 500 bytes are there.
      { state: 'data', offset: 2200, length: 1000, file: parent, fileOffset: 2000 },
      { state: 'data', offset: 3200, length: 300, file: child, fileOffset: 0 },
    ];
    const disk = { virtualSize: 3500, locate: async () => extents };
    const set = await offloadReadDisk(stack, disk, { offset: 0, length: 3500 }, PIT);
    expect(set.length).toBe(3500);
    const expected = new Uint8Array(3500);
    expected.set(pattern(2500, 2).subarray(500, 1500));
    expected.set(pattern(4000, 1).subarray(3500), 1000);
    expected.set(pattern(2500, 2).subarray(2000), 2200);
    expected.set(pattern(4000, 1).subarray(0, 300), 3200);
    expect(Buffer.compare(await written(stack, set), expected)).toBe(0);
    const absent = {
      ...disk,
      locate: async (): Promise<Extent[]> => [{ state: 'absent', offset: 0, length: 3500 }],
    };
    await expect(offloadReadDisk(stack, absent, { offset: 0, length: 3500 }, PIT)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });
});
