/** The limit for bytes per second: exact on a scripted clock, through every way that bytes are moved. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../../src/base/random.js';
import { systemTimer } from '../../../src/base/timer.js';
import type { Extent } from '../../../src/block/extent.js';
import { MemoryFile } from '../../../src/io/memory-file.js';
import { BufferPool } from '../../../src/offload/buffer-pool.js';
import { bufferedProvider } from '../../../src/offload/providers/buffered-provider.js';
import { zeroProvider } from '../../../src/offload/providers/zero-provider.js';
import { limited, RateLimit } from '../../../src/offload/rate-limit.js';
import { TokenManager } from '../../../src/offload/token-manager.js';
import { type SessionOptions, transfer } from '../../../src/offload/transfer-session.js';
import { FakeTimer } from '../../support/fake-timer.js';
import { CheckingTarget, type FakeOptions, fakeProvider } from '../../support/offload-fakes.js';

const KiB = 1024;
const MiB = 1024 * KiB;

describe('RateLimit', () => {
  it('n bytes take n / rate seconds, whatever the pieces', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1e9 }),
        fc.array(fc.integer({ min: 1, max: 8 * MiB }), { minLength: 1, maxLength: 30 }),
        fc.boolean(),
        async (rate, pieces, together) => {
          const timer = new FakeTimer();
          const limit = new RateLimit(rate, timer);
          if (together) await Promise.all(pieces.map((bytes) => limit.take(bytes)));
          else for (const bytes of pieces) await limit.take(bytes);
          const expected = (pieces.reduce((sum, bytes) => sum + bytes, 0) * 1000) / rate;
          expect(timer.time).toBeGreaterThanOrEqual(expected * 0.999_999);
          expect(timer.time).toBeLessThanOrEqual(expected * 1.000_001 + 1);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('serves in the order of asking', async () => {
    const limit = new RateLimit(1000, new FakeTimer());
    const order: number[] = [];
    await Promise.all([500, 1, 200].map((bytes) => limit.take(bytes).then(() => order.push(bytes))));
    expect(order).toEqual([500, 1, 200]);
  });

  it('a pause is made up for by a tenth of a second at most', async () => {
    const timer = new FakeTimer();
    const limit = new RateLimit(1000, timer);
    await limit.take(1000);
    timer.time += 60_000;
    const before = timer.time;
    await limit.take(1000);
    expect(timer.time - before).toBe(900);
  });

  it('gives back what was not moved', async () => {
    const timer = new FakeTimer();
    const limit = new RateLimit(1000, timer);
    await limit.take(1000);
    limit.refund(1000);
    await limit.take(900);
    expect(timer.time).toBe(1000);
    await limit.take(600);
    expect(timer.time).toBe(1500);
  });

  it('a wait ends at once when it is cancelled, and so does one that has not begun', async () => {
    const stop = new AbortController();
    const limit = new RateLimit(1, new FakeTimer({ frozen: true }));
    const wait = limit.take(1e12, stop.signal);
    stop.abort();
    await expect(wait).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(limit.take(1, stop.signal)).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

describe('the system timer', () => {
  it('waits about as long as it is told', async () => {
    const start = systemTimer.now();
    await systemTimer.sleep(30);
    expect(systemTimer.now() - start).toBeGreaterThanOrEqual(28);
  });

  it('stops waiting when told, also for a time that setTimeout can not take', async () => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 5);
    const start = systemTimer.now();
    await systemTimer.sleep(1e15, stop.signal);
    await systemTimer.sleep(1e15, stop.signal);
    expect(systemTimer.now() - start).toBeLessThan(5000);
  });
});

/** Distinct bytes without a chunk of zeros. */
function filled(size: number): MemoryFile {
  return new MemoryFile(new Uint8Array(size).fill(0x5a), 'source');
}

async function* list(...extents: Extent[]): AsyncGenerator<Extent> {
  yield* extents;
}

const data = (file: MemoryFile, offset: number, length: number): Extent => ({
  state: 'data',
  offset,
  length,
  file,
  fileOffset: offset,
});

function parts(timer: FakeTimer, rate: number, reflink: FakeOptions, kernel: FakeOptions = {}) {
  const manager = new TokenManager({ clock: { now: () => 0 }, random: systemRandom });
  const options: SessionOptions = {
    provider: 'auto',
    zeros: 'auto',
    manager,
    rateLimit: new RateLimit(rate, timer),
    providers: [
      zeroProvider(manager),
      fakeProvider(manager, 'reflink', { alignment: 4096, ...reflink }),
      fakeProvider(manager, 'kernel', kernel),
      bufferedProvider(manager, new BufferPool(64 * KiB, 4)),
    ],
  };
  return options;
}

const NO_SHARING: FakeOptions = { supported: false };

describe('a session that is kept to a rate', () => {
  it.each([
    ['scanned and written', { zeros: 'scan' }],
    ['copied by the kernel', { zeros: 'holes' }],
    ['read and written', { zeros: 'holes', provider: 'buffered' }],
    ['scanned and then copied by the kernel', { zeros: 'scan', provider: 'kernel' }],
  ] as const)('payload that is %s takes its time', async (_, settings) => {
    const timer = new FakeTimer();
    const target = new CheckingTarget({ size: 8 * MiB });
    const source = filled(8 * MiB);
    const options = { ...parts(timer, MiB, NO_SHARING), ...settings };
    await transfer(list(data(source, 0, 8 * MiB)), target, options);
    expect(timer.time).toBeGreaterThan(7999);
    expect(timer.time).toBeLessThan(8100);
    expect(Buffer.compare(await target.content(), source.bytes())).toBe(0);
  });

  it('many short pieces that are gathered count as well', async () => {
    const timer = new FakeTimer();
    const source = filled(MiB);
    const extents: Extent[] = [];
    for (let at = 0; at < MiB; at += 8 * KiB) {
      extents.push(data(source, at, 4 * KiB), { state: 'zero', offset: at + 4 * KiB, length: 4 * KiB });
    }
    const options = { ...parts(timer, 128 * KiB, NO_SHARING), zeros: 'holes' as const };
    await transfer(list(...extents), new CheckingTarget({ size: MiB }), options);
    expect(timer.time).toBeGreaterThan(3999);
    expect(timer.time).toBeLessThan(4100);
  });

  it('zeros that had to be read count, holes and shared extents do not', async () => {
    const timer = new FakeTimer();
    const zeros = new MemoryFile(new Uint8Array(2 * MiB), 'zeros');
    const target = new CheckingTarget({ size: 1024 * MiB });
    const hole: Extent = { state: 'zero', offset: 2 * MiB, length: 1000 * MiB };
    await transfer(list(data(zeros, 0, 2 * MiB), hole), target, parts(timer, MiB, NO_SHARING));
    expect(timer.time).toBeCloseTo(2000);
    const shared = new FakeTimer();
    await transfer(list(data(filled(8 * MiB), 0, 8 * MiB)), target, parts(shared, 1, {}));
    expect(shared.sleeps).toBe(0);
  });

  it('what a provider turned down or did in part is not paid twice', async () => {
    const timer = new FakeTimer();
    const options = parts(timer, MiB, NO_SHARING, { failFrom: 2, shorten: (length) => length / 2 });
    const moved = await transfer(
      list(data(filled(4 * MiB), 0, 4 * MiB)),
      new CheckingTarget({ size: 4 * MiB }),
      {
        ...options,
        zeros: 'holes',
      },
    );
    expect(moved.kernelCopied).toBe(2 * 128 * KiB);
    expect(moved.kernelCopied + moved.buffered).toBe(4 * MiB);
    expect(timer.time).toBeGreaterThan(3999);
    expect(timer.time).toBeLessThan(4100);
  });

  it('one limit for two sessions at once', async () => {
    const timer = new FakeTimer();
    const options = parts(timer, MiB, NO_SHARING);
    const run = () =>
      transfer(list(data(filled(4 * MiB), 0, 4 * MiB)), new CheckingTarget({ size: 4 * MiB }), options);
    await Promise.all([run(), run()]);
    expect(timer.time).toBeGreaterThan(7999);
    expect(timer.time).toBeLessThan(8100);
  });

  it('cancelling while everything waits ends it at once', async () => {
    const stop = new AbortController();
    const options = parts(new FakeTimer({ frozen: true }), 1, NO_SHARING);
    const run = transfer(list(data(filled(4 * MiB), 0, 4 * MiB)), new CheckingTarget({ size: 4 * MiB }), {
      ...options,
      signal: stop.signal,
    });
    setImmediate(() => stop.abort());
    await expect(run).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

it('a limited provider is asked for a quarter of a second at a time', async () => {
  const manager = new TokenManager({ clock: { now: () => 0 }, random: systemRandom });
  const timer = new FakeTimer();
  const fake = fakeProvider(manager, 'kernel');
  const provider = limited(fake, new RateLimit(4 * MiB, timer));
  const source = filled(4 * MiB);
  const { token } = await manager.bind(
    source,
    { offset: 0, length: source.size() },
    { mode: 'point-in-time', ttl: 0 },
  );
  const request = { token, tokenOffset: 0, target: new MemoryFile(new Uint8Array(0), 't'), targetOffset: 0 };
  expect(await provider.offloadWrite({ ...request, length: 4 * MiB })).toEqual({
    status: 'done',
    length: MiB,
  });
  expect(fake.calls[0]?.length).toBe(MiB);
  expect(timer.time).toBe(250);
});
