/**
 * What is remembered about pairs of devices: failures for three minutes, measurements for one.
 */
import { describe, expect, it } from 'vitest';
import type { Extent } from '../../../src/block/extent.js';
import { MemoryFile } from '../../../src/io/memory-file.js';
import { BufferPool } from '../../../src/offload/buffer-pool.js';
import { FailedPairs, RETRY_AFTER } from '../../../src/offload/failed-pairs.js';
import type { Ladder } from '../../../src/offload/ladder.js';
import { LatencyMemory } from '../../../src/offload/latency.js';
import { bufferedProvider } from '../../../src/offload/providers/buffered-provider.js';
import { zeroProvider } from '../../../src/offload/providers/zero-provider.js';
import { transfer } from '../../../src/offload/transfer-session.js';
import { CheckingTarget, fakeProvider } from '../../support/offload-fakes.js';
import { changed, DeviceFile, HandClock, newManager, pattern } from '../../support/stack-kit.js';

const MiB = 1024 * 1024;
const file = (device: number, path?: string) => new DeviceFile(new Uint8Array(0), device, path);
const reason = 'no';

describe('failed pairs', () => {
  it('of devices concern all files on them, in that direction, for that provider', () => {
    const failed = new FailedPairs(new HandClock());
    failed.note('reflink', file(1), file(2), { reason, scope: 'devices' });
    expect(failed.find('reflink', file(1), file(2))).toEqual({ reason, retryIn: RETRY_AFTER });
    expect(failed.find('reflink', file(2), file(1))).toBeUndefined();
    expect(failed.find('reflink', file(1), file(1))).toBeUndefined();
    expect(failed.find('kernel', file(1), file(2))).toBeUndefined();
  });

  it('of files concern these two, and ranges nobody', () => {
    const failed = new FailedPairs(new HandClock());
    const [a, b] = [file(1), file(2)];
    failed.note('reflink', a, b, { reason, scope: 'files' });
    failed.note('kernel', a, b, { reason, scope: 'range' });
    expect(failed.find('reflink', a, b)).toBeDefined();
    expect(failed.find('reflink', file(1), b)).toBeUndefined();
    expect(failed.find('kernel', a, b)).toBeUndefined();
    // Another file that got the number of one that is gone.
    const again = new DeviceFile(new Uint8Array(0), 1, 'elsewhere');
    again.fingerprint = () => a.fingerprint();
    expect(failed.find('reflink', again, b)).toBeUndefined();
  });

  it('without a scope are of the devices; what has no identity is a device of its own', () => {
    const failed = new FailedPairs(new HandClock());
    const memory = new MemoryFile(new Uint8Array(0));
    failed.note('a', memory, file(2), { reason });
    expect(failed.find('a', memory, file(2))).toBeDefined();
    expect(failed.find('a', new MemoryFile(new Uint8Array(0)), file(2))).toBeUndefined();
  });

  it('end after three minutes, counted from the last failure', () => {
    const clock = new HandClock();
    const failed = new FailedPairs(clock);
    const [a, b] = [file(1), file(2)];
    failed.note('p', a, b, { reason });
    clock.time = 100_000;
    failed.note('p', a, b, { reason: 'again' });
    clock.time = 279_999;
    expect(failed.find('p', a, b)).toEqual({ reason: 'again', retryIn: 1 });
    clock.time = 280_000;
    expect(failed.find('p', a, b)).toBeUndefined();
  });

  it('are bounded: the oldest give way', () => {
    const failed = new FailedPairs(new HandClock());
    const target = file(0);
    for (let device = 1; device <= 3000; device += 1) failed.note('p', file(device), target, { reason });
    const known = Array.from({ length: 3000 }, (_, index) => failed.find('p', file(index + 1), target));
    expect(known.filter((entry) => entry !== undefined)).toHaveLength(1024);
    expect(known.slice(0, 1976).every((entry) => entry === undefined)).toBe(true);
  });
});

describe('latency', () => {
  const pair = [file(1), file(2)] as const;

  async function spend(memory: LatencyMemory, clock: HandClock, bytes: number, ms: number): Promise<void> {
    const work = async () => {
      clock.time += ms;
      return bytes;
    };
    await memory.measure('p', ...pair, work, (done) => done);
  }

  it('tells what a call costs from what a byte costs', async () => {
    const clock = new HandClock();
    const memory = new LatencyMemory(clock);
    for (const size of [1, 16, 4, 64, 2, 32]) await spend(memory, clock, size * MiB, 5 + 2 * size);
    expect(memory.estimate('p', ...pair, 10 * MiB)).toBeCloseTo(25);
    expect(memory.estimate('p', file(1), file(2), 0)).toBeCloseTo(5);
    expect(memory.estimate('p', file(2), file(1), 10 * MiB)).toBeUndefined();
    expect(memory.estimate('q', ...pair, 10 * MiB)).toBeUndefined();
  });

  it('is never negative, whatever was measured', async () => {
    for (const times of [
      [50, 1, 1],
      [0, 0, 0],
      [1, 1, 200],
    ]) {
      const clock = new HandClock();
      const memory = new LatencyMemory(clock);
      for (const [index, ms] of times.entries()) await spend(memory, clock, (index + 1) * MiB, ms);
      for (const size of [1, MiB, 100 * MiB]) {
        expect(memory.estimate('p', ...pair, size)).toBeGreaterThanOrEqual(0);
      }
    }
  });

  it('follows what changes, and forgets after a minute', async () => {
    const clock = new HandClock();
    const memory = new LatencyMemory(clock);
    for (let call = 0; call < 50; call += 1) await spend(memory, clock, MiB, 100);
    for (let call = 0; call < 20; call += 1) await spend(memory, clock, MiB, 10);
    expect(memory.estimate('p', ...pair, MiB)).toBeLessThan(25);
    clock.time += 60_001;
    expect(memory.estimate('p', ...pair, MiB)).toBeUndefined();
    await spend(memory, clock, MiB, 3);
    expect(memory.estimate('p', ...pair, MiB)).toBeCloseTo(3);
  });

  it('counts no work that did nothing', async () => {
    const clock = new HandClock();
    const memory = new LatencyMemory(clock);
    await spend(memory, clock, 0, 100);
    expect(memory.estimate('p', ...pair, MiB)).toBeUndefined();
  });
});

describe('sessions of one process', () => {
  function session(memory: ConstructorParameters<typeof Ladder>[2], failFrom = Number.POSITIVE_INFINITY) {
    const manager = newManager();
    const kernel = fakeProvider(manager, 'kernel', { failFrom });
    const rest = [zeroProvider(manager), bufferedProvider(manager, new BufferPool(64 * 1024, 4))];
    const options = {
      provider: 'auto',
      zeros: 'holes',
      manager,
      providers: [...rest, kernel],
      memory,
    } as const;
    return { kernel, options };
  }

  async function* all(source: MemoryFile, size: number): AsyncGenerator<Extent> {
    yield { state: 'data', offset: 0, length: size, file: source, fileOffset: 0 };
  }

  it('do not try again what failed in another, until three minutes are over', async () => {
    const clock = new HandClock();
    const memory = { failed: new FailedPairs(clock) };
    const source = new DeviceFile(pattern(MiB), 1);
    const target = new CheckingTarget({ size: MiB });
    const first = session(memory, 0);
    expect((await transfer(all(source, MiB), target, first.options)).buffered).toBe(MiB);
    expect(first.kernel.calls).toHaveLength(1);
    clock.time = RETRY_AFTER - 1;
    const second = session(memory);
    expect((await transfer(all(source, MiB), target, second.options)).buffered).toBe(MiB);
    expect([second.kernel.asked, second.kernel.calls.length]).toEqual([0, 0]);
    const demanded = transfer(all(source, MiB), target, { ...session(memory).options, provider: 'kernel' });
    await expect(demanded).rejects.toMatchObject({
      code: 'OFFLOAD_UNSUPPORTED',
      context: { reason: 'kernel gave up (tried again in 1 s)' },
    });
    clock.time = RETRY_AFTER;
    expect((await transfer(all(source, MiB), target, session(memory).options)).kernelCopied).toBe(MiB);
  });

  it('let the quickest of one kind go first, and never a dearer kind', async () => {
    const clock = new HandClock();
    const manager = newManager();
    const timed = (id: 'kernel' | 'buffered', ms: number) =>
      changed(fakeProvider(manager, id, { maxLength: MiB }), async (work, length) => {
        clock.time += (ms * length) / MiB;
        return work();
      });
    const calls = { slow: 0, quick: 0, dear: 0 };
    const counted = (name: keyof typeof calls, id: 'kernel' | 'buffered', ms: number) => {
      const provider = timed(id, ms);
      return changed(provider, async (work) => {
        calls[name] += 1;
        return work();
      });
    };
    const providers = [
      zeroProvider(manager),
      counted('slow', 'kernel', 50),
      counted('quick', 'kernel', 5),
      counted('dear', 'buffered', 1),
    ];
    const memory = { latency: new LatencyMemory(clock) };
    const options = { provider: 'auto', zeros: 'holes', manager, providers, memory } as const;
    const source = new DeviceFile(pattern(40 * MiB), 1);
    const target = new CheckingTarget({ size: 40 * MiB });
    const moved = await transfer(all(source, 40 * MiB), target, options);
    expect(moved.kernelCopied).toBe(40 * MiB);
    expect(calls).toEqual({ slow: 1, quick: 39, dear: 0 });
    expect(Buffer.compare(await target.content(), source.bytes())).toBe(0);
  });
});
