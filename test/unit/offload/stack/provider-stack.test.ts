/**
 * Several providers for the same data: whose tokens, who writes, and what is remembered of it.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VhdkitError } from '../../../../src/base/errors.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import type { OffloadProvider } from '../../../../src/offload/offload-provider.js';
import type { StackMember } from '../../../../src/offload/stack/provider-stack.js';
import {
  offloadReadAll,
  type ReadLimits,
  withReadLimits,
} from '../../../../src/offload/stack/requestor-read.js';
import { offloadWriteAll, type WriteAllOptions } from '../../../../src/offload/stack/requestor-write.js';
import type { TokenManager } from '../../../../src/offload/token-manager.js';
import { TokenSet } from '../../../../src/offload/token-set.js';
import { type FakeOptions, fakeProvider } from '../../../support/offload-fakes.js';
import {
  changed,
  DeviceFile,
  HandClock,
  memoryFile,
  newManager,
  newStack,
  pattern,
} from '../../../support/stack-kit.js';

const PIT = { mode: 'point-in-time' } as const;
const SIZE = 20_000;
const WHOLE = { offset: 0, length: SIZE };

interface Made {
  member: StackMember;
  manager: TokenManager;
  calls: () => number;
}

/** A member with a manager of its own. */
function member(id: string, fake: FakeOptions = {}, limits: ReadLimits = {}, clock = new HandClock()): Made {
  const manager = newManager(clock);
  const provider = fakeProvider(manager, 'buffered', fake);
  return {
    member: { id, provider: withReadLimits(provider, limits) },
    manager,
    calls: () => provider.calls.length,
  };
}

async function write(stack: ReturnType<typeof newStack>, set: TokenSet, options: WriteAllOptions = {}) {
  const target = new MemoryFile(new Uint8Array(0));
  const result = await offloadWriteAll(stack, set, target, 0, options);
  expect(Buffer.compare(target.bytes(), pattern(SIZE).subarray(0, set.length))).toBe(0);
  return result.by;
}

describe('reading', () => {
  it('gives the tokens of all, however each of them splits the range', async () => {
    const limits = fc.record({
      maxLength: fc.integer({ min: 700, max: 30_000 }),
      boundary: fc.integer({ min: 900, max: 30_000 }),
    });
    await fc.assert(
      fc.asyncProperty(limits, limits, async (a, b) => {
        const stack = newStack([member('a', {}, a).member, member('b', {}, b).member]);
        const both = await offloadReadAll(stack, memoryFile(SIZE), WHOLE, PIT);
        expect(both.parts.every(({ choices }) => choices.length === 2)).toBe(true);
        const set = TokenSet.fromBytes(both.toBytes());
        for (const id of ['a', 'b']) {
          expect(await write(stack, set, { id })).toEqual({ [id]: SIZE });
          const only = set.only(id);
          expect(only && (await write(stack, only))).toEqual({ [id]: SIZE });
        }
      }),
      { numRuns: 40, endOnFailure: true },
    );
  });

  it('gives what one provider offers where another makes no such tokens', async () => {
    const a = member('a');
    const refusing: OffloadProvider = {
      ...a.member.provider,
      offloadRead: async () => {
        throw new VhdkitError('UNSUPPORTED', 'no such tokens');
      },
    };
    const refused = { id: 'a', provider: refusing };
    const set = await offloadReadAll(newStack([refused, member('b').member]), memoryFile(SIZE), WHOLE, PIT);
    expect(set.providers).toEqual(['b']);
    const none = offloadReadAll(newStack([refused]), memoryFile(SIZE), WHOLE, PIT);
    await expect(none).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('takes the tokens of one provider when told so, and one token where members share them', async () => {
    const a = member('a');
    const shared = { ...member('x').member, provider: a.member.provider, tokens: 'a' };
    const stack = newStack([a.member, shared, member('b').member]);
    expect((await offloadReadAll(stack, memoryFile(SIZE), WHOLE, PIT)).providers).toEqual(['a', 'b']);
    const one = await offloadReadAll(stack, memoryFile(SIZE), WHOLE, { ...PIT, id: 'x' });
    expect(one.providers).toEqual(['a']);
    expect(await write(stack, one, { id: 'x' })).toEqual({ x: SIZE });
    await expect(offloadReadAll(stack, memoryFile(SIZE), WHOLE, { ...PIT, id: 'y' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it.each([[['a', 'a']], [['/dev/sda']], [['']], [[]]])('refuses ids like %j', (ids) => {
    expect(() => newStack(ids.map((id) => ({ ...member('m').member, id })))).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });

  it('puts nothing of files into a set', async () => {
    const stack = newStack([member('a').member, member('b').member]);
    const file = new MemoryFile(pattern(SIZE), '/secret/path/disk.img');
    const text = Buffer.from((await offloadReadAll(stack, file, WHOLE, PIT)).toBytes()).toString('latin1');
    for (const word of ['secret', 'path', 'disk.img']) expect(text).not.toContain(word);
  });
});

describe('choosing who writes', () => {
  it('takes the first that can, goes by id, and passes over those that would do it', async () => {
    const can = { supported: true };
    const members = [member('a', { supported: false }), member('b', can), member('c', can), member('d', can)];
    const stack = newStack(members.map((made) => made.member));
    const set = await offloadReadAll(stack, memoryFile(SIZE), WHOLE, PIT);
    expect(await write(stack, set)).toEqual({ b: SIZE });
    expect(await write(stack, set, { id: 'd' })).toEqual({ d: SIZE });
    expect(await write(stack, set, { skip: 1 })).toEqual({ c: SIZE });
    expect(await write(stack, set, { skip: 2 })).toEqual({ d: SIZE });
    for (const options of [{ skip: 3 }, { id: 'a' }, { id: 'b', skip: 1 }]) {
      await expect(write(stack, set, options)).rejects.toMatchObject({
        code: 'OFFLOAD_UNSUPPORTED',
        context: { done: 0 },
      });
    }
    await expect(write(stack, set, { id: 'zz' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('gives the aligned middle to whoever needs that, and the edges to the next', async () => {
    const manager = newManager();
    const aligned = fakeProvider(manager, 'reflink', { alignment: 4096, maxLength: 8192 });
    const any = fakeProvider(manager, 'buffered');
    const stack = newStack([
      { id: 'sharing', provider: aligned, tokens: 'local' },
      { id: 'copying', provider: any, tokens: 'local' },
    ]);
    const file = memoryFile(SIZE);
    const set = await offloadReadAll(stack, file, { offset: 100, length: SIZE - 100 }, PIT);
    const target = new MemoryFile(new Uint8Array(0));
    const { by } = await offloadWriteAll(stack, set, target, 4096 + 100);
    expect(by).toEqual({ copying: 4096 - 100 + (SIZE % 4096), sharing: 3 * 4096 });
    expect(Buffer.compare(target.bytes().subarray(4196), pattern(SIZE).subarray(100))).toBe(0);
    const shifted = await offloadWriteAll(stack, set, new MemoryFile(new Uint8Array(0)), 0);
    expect(shifted.by).toEqual({ copying: SIZE - 100 });
    const strict = offloadWriteAll(stack, set, new MemoryFile(new Uint8Array(0)), 4196, { id: 'sharing' });
    await expect(strict).rejects.toMatchObject({ code: 'OFFLOAD_UNSUPPORTED', context: { done: 0 } });
  });

  it('finds out who is quicker, and notices when that changes', async () => {
    const MiB = 1024 * 1024;
    const clock = new HandClock();
    const cost = { a: 10, b: 1 };
    const timed = (id: 'a' | 'b'): StackMember => {
      const { provider } = member(id, { maxLength: MiB }, {}, clock).member;
      const slow = changed(provider, async (work, length) => {
        clock.time += (cost[id] * length) / MiB;
        return work();
      });
      return { id, provider: slow };
    };
    const stack = newStack([timed('a'), timed('b')], clock);
    const source = new DeviceFile(pattern(32 * MiB), 1);
    const set = await offloadReadAll(stack, source, { offset: 0, length: 32 * MiB }, { ...PIT, ttl: 1e6 });
    const target = new DeviceFile(new Uint8Array(0), 2);
    const go = async () => (await offloadWriteAll(stack, set, target, 0, { order: 'latency' })).by;
    expect(await go()).toEqual({ a: MiB, b: 31 * MiB });
    expect(await go()).toEqual({ b: 32 * MiB });
    // The listed order is not touched by what was measured.
    expect((await offloadWriteAll(stack, set, target, 0)).by).toEqual({ a: 32 * MiB });
    cost.b = 40;
    const { a = 0, b = 0 } = await go();
    expect(a + b).toBe(32 * MiB);
    expect(b).toBeLessThan(12 * MiB);
    cost.b = 1;
    expect(await go()).toEqual({ a: 32 * MiB });
    // After a minute each is tried again.
    clock.time += 60_001;
    expect(await go()).toEqual({ a: MiB, b: 31 * MiB });
  });
});

describe('providers that fail', () => {
  function failing(after: number, clock: HandClock) {
    const a = member('a', { maxLength: 4096, failFrom: after }, {}, clock);
    return { a, stack: newStack([a.member, member('b', {}, {}, clock).member], clock) };
  }

  it('hand over at the point reached', async () => {
    const { a, stack } = failing(2, new HandClock());
    const set = await offloadReadAll(stack, memoryFile(SIZE), WHOLE, PIT);
    expect(await write(stack, set)).toEqual({ a: 8192, b: SIZE - 8192 });
    expect(a.calls()).toBe(3);
  });

  it('are not asked again for three minutes, whoever asks and however', async () => {
    const clock = new HandClock();
    const { a, stack } = failing(0, clock);
    const source = new DeviceFile(pattern(SIZE), 1);
    const target = new DeviceFile(new Uint8Array(0), 2);
    const set = await offloadReadAll(stack, source, WHOLE, PIT);
    const go = async (options: WriteAllOptions = {}) =>
      (await offloadWriteAll(stack, set, target, 0, options)).by;
    expect(await go()).toEqual({ b: SIZE });
    expect(a.calls()).toBe(1);
    clock.time = 179_000;
    const again = await offloadReadAll(stack, source, WHOLE, PIT);
    expect((await offloadWriteAll(stack, again, target, 0)).by).toEqual({ b: SIZE });
    const demanded = offloadWriteAll(stack, again, target, 0, { id: 'a' });
    await expect(demanded).rejects.toMatchObject({
      code: 'OFFLOAD_UNSUPPORTED',
      context: { reason: expect.stringContaining('tried again in 1 s') },
    });
    expect(a.calls()).toBe(1);
    clock.time = 180_000;
    expect((await offloadWriteAll(stack, again, target, 0)).by).toEqual({ b: SIZE });
    expect(a.calls()).toBe(2);
    stack.memory.failed.forget();
    await offloadWriteAll(stack, again, target, 0);
    expect(a.calls()).toBe(3);
  });

  it('fail after four requests that did nothing, and not after three', async () => {
    for (const [idle, by] of [
      [3, { a: SIZE }],
      [4, { b: SIZE }],
    ] as const) {
      const a = member('a');
      let left = idle as number;
      const lazy = changed(a.member.provider, async (work) => {
        left -= 1;
        return left >= 0 ? { status: 'done', length: 0 } : work();
      });
      const stack = newStack([{ id: 'a', provider: lazy }, member('b').member]);
      const set = await offloadReadAll(stack, memoryFile(SIZE), WHOLE, PIT);
      expect(await write(stack, set)).toEqual(by);
    }
  });

  it('are passed over when their tokens are refused, before or while writing', async () => {
    const clock = new HandClock();
    const { a, stack } = failing(99, clock);
    const set = await offloadReadAll(stack, memoryFile(SIZE), WHOLE, PIT);
    const token = set.only('a')?.parts[0]?.choices[0]?.token;
    let steps = 0;
    const target = new MemoryFile(new Uint8Array(0));
    let revoked: Promise<void> | undefined;
    const onProgress = () => {
      steps += 1;
      if (steps === 2 && token) revoked = a.manager.revoke(token);
    };
    const { by } = await offloadWriteAll(stack, set, target, 0, { onProgress });
    await revoked;
    expect(by).toEqual({ a: 8192, b: SIZE - 8192 });
    expect(Buffer.compare(target.bytes(), pattern(SIZE))).toBe(0);
    expect(await write(stack, set)).toEqual({ b: SIZE });
    const demanded = write(stack, set, { id: 'a' });
    await expect(demanded).rejects.toMatchObject({ code: 'TOKEN_INVALID' });
  });

  it('that change their source make the whole write fail', async () => {
    const manager = newManager();
    const source = new DeviceFile(pattern(SIZE), 1);
    let print = 0n;
    source.fingerprint = () => ({ device: 1n, inode: 1n, size: 0n, mtime: print, ctime: print });
    const provider = fakeProvider(manager, 'buffered');
    const stack = newStack([{ id: 'a', provider }]);
    const set = await offloadReadAll(stack, source, WHOLE, { mode: 'change-vulnerable' });
    const onProgress = (): void => {
      print = 1n;
    };
    const writing = offloadWriteAll(stack, set, new MemoryFile(new Uint8Array(0)), 0, { onProgress });
    await expect(writing).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
  });

  it('with anything worse end the write', async () => {
    const a = member('a');
    const broken = changed(a.member.provider, async () => {
      throw new VhdkitError('NO_SPACE', 'full');
    });
    const stack = newStack([{ id: 'a', provider: broken }, member('b').member]);
    const set = await offloadReadAll(stack, memoryFile(SIZE), WHOLE, PIT);
    await expect(write(stack, set)).rejects.toMatchObject({ code: 'NO_SPACE' });
  });
});
