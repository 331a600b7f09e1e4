/**
 * The transfer session: falling back, stopping, refusing, and what it leaves behind.
 */
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../../src/base/random.js';
import type { Extent } from '../../../src/block/extent.js';
import { MemoryFile } from '../../../src/io/memory-file.js';
import type { FileFingerprint } from '../../../src/io/random-access-file.js';
import { BufferPool } from '../../../src/offload/buffer-pool.js';
import type { OffloadProvider } from '../../../src/offload/offload-provider.js';
import { bufferedProvider } from '../../../src/offload/providers/buffered-provider.js';
import { zeroProvider } from '../../../src/offload/providers/zero-provider.js';
import { TokenManager } from '../../../src/offload/token-manager.js';
import { forecast, type SessionOptions, transfer } from '../../../src/offload/transfer-session.js';
import { CheckingTarget, type FakeOptions, fakeProvider, SlowFile } from '../../support/offload-fakes.js';

const MiB = 1024 * 1024;
const BLOCK = 4096;

function filled(size: number, name = 'source'): MemoryFile {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 1) bytes[at] = 1 + ((at ^ (at >> 9)) % 250);
  return new MemoryFile(bytes, name);
}

function data(file: MemoryFile, offset: number, length: number, fileOffset = offset): Extent {
  return { state: 'data', offset, length, file, fileOffset };
}

async function* list(...extents: Extent[]): AsyncGenerator<Extent> {
  yield* extents;
}

function parts(reflinkOptions: FakeOptions = {}, kernelOptions: FakeOptions = {}) {
  const manager = new TokenManager({ clock: { now: () => 0 }, random: systemRandom });
  const reflink = fakeProvider(manager, 'reflink', { alignment: BLOCK, ...reflinkOptions });
  const kernel = fakeProvider(manager, 'kernel', kernelOptions);
  const providers: OffloadProvider[] = [
    zeroProvider(manager),
    reflink,
    kernel,
    bufferedProvider(manager, new BufferPool(64 * 1024, 4)),
  ];
  const options: SessionOptions = { provider: 'auto', zeros: 'auto', manager, providers };
  return { manager, reflink, kernel, options };
}

/** Buffers are compared natively: a deep comparison of megabytes takes seconds. */
async function expectContent(target: CheckingTarget, expected: Uint8Array): Promise<void> {
  expect(Buffer.compare(await target.content(), expected)).toBe(0);
}

describe('choice of provider', () => {
  it('shares the aligned middle and reads and writes the edges', async () => {
    const source = filled(MiB);
    const { options, reflink } = parts();
    const target = new CheckingTarget({ size: MiB });
    const moved = await transfer(list(data(source, 512, MiB - 1024)), target, options);
    expect(moved).toEqual({
      shared: MiB - 2 * BLOCK,
      kernelCopied: 0,
      buffered: 2 * (BLOCK - 512),
      zeroed: 0,
    });
    expect(reflink.calls).toHaveLength(1);
    const expected = source
      .bytes()
      .fill(0, 0, 512)
      .fill(0, MiB - 512);
    await expectContent(target, expected);
  });

  it('asks for capabilities once per pair', async () => {
    const { options, reflink, kernel } = parts();
    const [a, b] = [filled(MiB, 'a'), filled(MiB, 'b')];
    const extents = Array.from({ length: 20 }, (_, i) => data(i % 2 ? a : b, i * BLOCK, BLOCK));
    await transfer(list(...extents), new CheckingTarget({ size: MiB }), options);
    expect([reflink.asked, kernel.asked]).toEqual([2, 2]);
  });

  it('goes on after short answers', async () => {
    const source = filled(MiB);
    const { options, reflink } = parts({ shorten: (length) => Math.min(length, 16 * BLOCK) });
    const target = new CheckingTarget({ size: MiB });
    const moved = await transfer(list(data(source, 0, MiB)), target, options);
    expect(moved.shared).toBe(MiB);
    expect(reflink.calls.map(({ targetOffset }) => targetOffset / BLOCK)).toEqual(
      Array.from({ length: 16 }, (_, i) => i * 16),
    );
    await expectContent(target, source.bytes());
  });

  it('remembers that a pair failed, and goes on from where it failed', async () => {
    const source = filled(4 * MiB);
    const { options, reflink } = parts({ failFrom: 1, maxLength: MiB });
    const target = new CheckingTarget({ size: 4 * MiB });
    const extents = [data(source, 0, 2 * MiB), { ...data(source, 2 * MiB, 2 * MiB), file: source }];
    const moved = await transfer(list(...extents), target, options);
    expect(moved).toEqual({ shared: MiB, kernelCopied: 3 * MiB, buffered: 0, zeroed: 0 });
    expect(reflink.calls).toHaveLength(2);
    await expectContent(target, source.bytes());
  });

  it('does not share what is shifted by less than a block, and looks at it for zeros instead', async () => {
    const source = filled(MiB);
    await source.write(new Uint8Array(256 * 1024), 512);
    const { options, reflink } = parts();
    const target = new CheckingTarget({ size: MiB });
    const moved = await transfer(list(data(source, 0, MiB - 512, 512)), target, options);
    expect(moved).toEqual({
      shared: 0,
      kernelCopied: 0,
      buffered: MiB - 512 - 256 * 1024,
      zeroed: 256 * 1024,
    });
    expect(reflink.calls).toHaveLength(0);
    await expectContent(target, Uint8Array.from([...source.bytes().subarray(512), ...new Uint8Array(512)]));
  });

  it('an explicit choice that the pair can not do is an error that says why', async () => {
    const { options } = parts({ supported: false });
    const run = transfer(list(data(filled(MiB), 0, MiB)), new CheckingTarget({ size: MiB }), {
      ...options,
      provider: 'reflink',
    });
    await expect(run).rejects.toMatchObject({
      code: 'OFFLOAD_UNSUPPORTED',
      message: expect.stringContaining('reflink is not possible here'),
      hint: expect.stringContaining('auto'),
    });
  });

  it('an explicit choice allows buffers for edges, but not for what is shifted', async () => {
    const source = filled(MiB);
    const target = new CheckingTarget({ size: MiB });
    const { options } = parts();
    const moved = await transfer(list(data(source, 512, 3 * BLOCK)), target, {
      ...options,
      provider: 'reflink',
    });
    expect(moved).toMatchObject({ shared: 2 * BLOCK, buffered: BLOCK });
    const shifted = transfer(list(data(source, 0, MiB / 2, 512)), target, {
      ...options,
      provider: 'reflink',
    });
    await expect(shifted).rejects.toMatchObject({ code: 'OFFLOAD_UNSUPPORTED' });
    expect(target.aborted).toBe(1);
  });

  it.each([
    ['skip-1', {}, {}, { kernelCopied: 4 * MiB }],
    ['skip-2', {}, {}, { buffered: 4 * MiB }],
    // Passed over are those that would do it.
    ['skip-1', { supported: false }, {}, { buffered: 4 * MiB }],
    ['skip-1', {}, { supported: false }, { buffered: 4 * MiB }],
    // Who fails on the way makes room for the next, and not for who was passed over.
    ['skip-1', {}, { failFrom: 2, maxLength: MiB }, { kernelCopied: 2 * MiB, buffered: 2 * MiB }],
  ] as const)('%s, of %j and %j, takes the next', async (provider, reflink, kernel, expected) => {
    const source = filled(4 * MiB);
    const target = new CheckingTarget({ size: 4 * MiB });
    const { options } = parts(reflink, kernel);
    const moved = await transfer(list(data(source, 0, 4 * MiB)), target, {
      ...options,
      provider,
      zeros: 'holes',
    });
    expect(moved).toEqual({ shared: 0, kernelCopied: 0, buffered: 0, zeroed: 0, ...expected });
    await expectContent(target, source.bytes());
  });

  it('of too few that would do it all are passed over: an error that says so', async () => {
    const { options } = parts({ supported: false });
    const run = transfer(list(data(filled(MiB), 0, MiB)), new CheckingTarget({ size: MiB }), {
      ...options,
      provider: 'skip-2',
    });
    await expect(run).rejects.toMatchObject({
      code: 'OFFLOAD_UNSUPPORTED',
      message: expect.stringMatching(
        /^With 2 passed over no provider is left .*reflink is not possible here/,
      ),
    });
  });

  it('an explicit choice that fails on the way is an error', async () => {
    const { options } = parts({}, { failFrom: 2, maxLength: MiB });
    const target = new CheckingTarget({ size: 4 * MiB });
    const run = transfer(list(data(filled(4 * MiB), 0, 4 * MiB)), target, {
      ...options,
      provider: 'kernel',
      zeros: 'holes',
    });
    await expect(run).rejects.toMatchObject({
      code: 'OFFLOAD_UNSUPPORTED',
      message: expect.stringContaining('gave up'),
    });
    expect([target.committed, target.aborted]).toEqual([0, 1]);
  });
});

describe('zeros', () => {
  it('never asks the target for places of holes, zero extents and (scanning) zero payload', async () => {
    const source = new MemoryFile(new Uint8Array(0), 'source');
    await source.truncate(8 * MiB);
    await source.write(new Uint8Array(64 * 1024).fill(1), MiB);
    await source.write(new Uint8Array(64 * 1024), 3 * MiB);
    const extents = [data(source, 0, 6 * MiB), { state: 'zero' as const, offset: 6 * MiB, length: 2 * MiB }];
    for (const [zeros, prepared] of [
      ['scan', [MiB]],
      ['holes', [MiB, 3 * MiB]],
    ] as const) {
      const target = new CheckingTarget({ size: 8 * MiB, blockSize: 2 * MiB });
      const { options } = parts();
      const moved = await transfer(list(...extents), target, { ...options, zeros });
      expect(target.prepared).toEqual(prepared.map((offset) => ({ offset, length: 64 * 1024 })));
      expect(moved.zeroed).toBe(8 * MiB - prepared.length * 64 * 1024);
    }
  });

  it('are written out where unwritten is not zero', async () => {
    const target = new CheckingTarget({ size: 4 * MiB, unwrittenIsZero: false });
    await target.soil();
    const source = filled(4 * MiB);
    await source.zero(MiB, MiB);
    const { options } = parts({ supported: false });
    const moved = await transfer(
      list(data(source, 0, 3 * MiB), { state: 'zero', offset: 3 * MiB, length: MiB }),
      target,
      options,
    );
    expect(moved).toMatchObject({ buffered: 2 * MiB, zeroed: 2 * MiB });
    await expectContent(target, source.bytes().fill(0, 3 * MiB));
  });

  it('payload past the end of a cut file reads as zeros', async () => {
    const source = filled(10_000);
    const target = new CheckingTarget({ size: MiB });
    await transfer(list(data(source, 0, MiB)), target, parts().options);
    const expected = new Uint8Array(MiB);
    expected.set(source.bytes());
    await expectContent(target, expected);
  });
});

describe('order', () => {
  it('allocates in disk order although reads end in any order, and recycled buffers leak nothing', async () => {
    const source = new SlowFile(filled(64 * MiB).bytes(), 'slow');
    // Alternating sectors of data and zeros, in windows of data only: more windows than buffers.
    const extents: Extent[] = [];
    for (let window = 0; window < 32; window += 1) {
      const start = window * 2 * MiB;
      if (window % 2 === 0) {
        extents.push(data(source, start, 2 * MiB));
        continue;
      }
      for (let at = start; at < start + MiB; at += 1024) {
        extents.push(data(source, at, 512), { state: 'zero', offset: at + 512, length: 512 });
      }
      extents.push({ state: 'zero', offset: start + MiB, length: MiB });
    }
    const expected = new Uint8Array(64 * MiB);
    for (const extent of extents) {
      if (extent.state !== 'data') continue;
      await source.read(expected.subarray(extent.offset, extent.offset + extent.length), extent.fileOffset);
    }
    const target = new CheckingTarget({ size: 64 * MiB, blockSize: 512 * 1024 });
    await transfer(list(...extents), target, { ...parts().options, zeros: 'scan' });
    await expectContent(target, expected);
    const starts = target.prepared.map(({ offset }) => offset);
    expect(starts.length).toBeGreaterThan(30);
    expect(starts).toEqual([...starts].sort((a, b) => a - b));
  });
});

describe('stopping', () => {
  it('stops at a signal, aborts what is prepared, and says CANCELLED', async () => {
    const stop = new AbortController();
    const { options } = parts({}, { maxLength: MiB, before: () => stop.abort() });
    const target = new CheckingTarget({ size: 8 * MiB });
    const run = transfer(list(data(filled(8 * MiB), 0, 8 * MiB)), target, {
      ...options,
      provider: 'kernel',
      zeros: 'holes',
      signal: stop.signal,
    });
    await expect(run).rejects.toMatchObject({ code: 'CANCELLED' });
    expect([target.prepared.length, target.committed, target.aborted]).toEqual([1, 0, 1]);
  });

  it('a commit that fails ends the transfer; what is prepared besides is aborted or committed', async () => {
    const target = new CheckingTarget({ size: 64 * MiB, failCommit: (offset) => offset === 4 * MiB });
    const { options, kernel } = parts();
    const run = transfer(list(data(filled(64 * MiB), 0, 64 * MiB)), target, { ...options, zeros: 'scan' });
    await expect(run).rejects.toThrow('commit fails');
    expect(target.committed + target.aborted + 1).toBe(target.prepared.length);
    expect(target.prepared.length).toBeLessThan(32);
    expect(kernel.calls).toHaveLength(0);
  });

  it('a failing list of extents ends it too', async () => {
    async function* failing(): AsyncGenerator<Extent> {
      yield data(filled(MiB), 0, MiB);
      throw new Error('bad table');
    }
    const target = new CheckingTarget({ size: MiB });
    await expect(transfer(failing(), target, parts().options)).rejects.toThrow('bad table');
    expect(target.committed + target.aborted).toBe(target.prepared.length);
  });

  it('an absent extent is a bug', async () => {
    const run = transfer(
      list({ state: 'absent', offset: 0, length: 512 }),
      new CheckingTarget({ size: MiB }),
      parts().options,
    );
    await expect(run).rejects.toThrow('Bug in vhdkit');
  });
});

class ChangingFile extends MemoryFile {
  mtime = 1n;
  override fingerprint(): FileFingerprint {
    return { device: 1n, inode: 2n, size: BigInt(this.size()), mtime: this.mtime, ctime: 1n };
  }
}

describe('a source that changes', () => {
  it.each([
    ['between requests', MiB],
    ['during the last request', 3 * MiB],
  ])('%s is noticed and named', async (_, when) => {
    const source = new ChangingFile(filled(4 * MiB).bytes(), 'busy.vhdx');
    const target = new CheckingTarget({ size: 4 * MiB });
    const write = target.file.write.bind(target.file);
    // While bytes arrive, after the token was resolved.
    target.file.write = async (buffer, offset) => {
      if (offset === when) source.mtime = 2n;
      await write(buffer, offset);
    };
    const { options, reflink } = parts({ maxLength: MiB });
    const run = transfer(list(data(source, 0, 4 * MiB)), target, options);
    await expect(run).rejects.toMatchObject({ code: 'SOURCE_CHANGED', context: { path: 'busy.vhdx' } });
    expect(reflink.calls.length).toBe(when === MiB ? 3 : 4);
  });
});

describe('forecast', () => {
  it('says what a transfer does, and touches nothing', async () => {
    const source = filled(4 * MiB);
    const extents = [
      data(source, 512, 2 * MiB),
      { state: 'zero' as const, offset: 2 * MiB + 512, length: MiB },
    ];
    const target = new CheckingTarget({ size: 4 * MiB });
    const said = await forecast(list(...extents), target, parts().options);
    expect(target.prepared).toEqual([]);
    expect(await transfer(list(...extents), target, parts().options)).toEqual(said.bytes);
  });

  it('counts the blocks of the target that would be written to, each once', async () => {
    const source = filled(8 * MiB);
    const blocks = async (...extents: Extent[]) => {
      const target = new CheckingTarget({ size: 8 * MiB, blockSize: MiB });
      const said = await forecast(list(...extents), target, parts().options);
      await transfer(list(...extents), target, parts().options);
      const touched = new Set(
        target.prepared.flatMap(({ offset, length }) => {
          const [first, last] = [Math.floor(offset / MiB), Math.floor((offset + length - 1) / MiB)];
          return Array.from({ length: last - first + 1 }, (_, index) => first + index);
        }),
      );
      expect(said.blocks).toBe(touched.size);
      return said.blocks;
    };
    expect(await blocks(data(source, 0, 8 * MiB))).toBe(8);
    const gap = { state: 'zero' as const, offset: 3 * MiB, length: 2 * MiB };
    expect(await blocks(data(source, BLOCK, 3 * MiB - BLOCK), gap, data(source, 5 * MiB, BLOCK))).toBe(4);
    const pieces = [0, 1, 2, 3].map((index) => data(source, index * 2 * BLOCK, BLOCK));
    expect(await blocks(...pieces, data(source, 2 * MiB - BLOCK, 2 * BLOCK))).toBe(3);
    expect(await blocks({ state: 'zero', offset: 0, length: 8 * MiB })).toBe(0);
  });

  it('tells how much of the payload would be looked at', async () => {
    const source = filled(2 * MiB);
    const extents = [data(source, 0, MiB), { state: 'zero' as const, offset: MiB, length: MiB }];
    const say = async (zeros: 'scan' | 'holes') =>
      (
        await forecast(list(...extents), new CheckingTarget({ size: 2 * MiB }), {
          ...parts().options,
          zeros,
        })
      ).scanned;
    expect([await say('scan'), await say('holes')]).toEqual([MiB, 0]);
  });

  it('refuses an explicit choice that can not be', async () => {
    const extents = list(data(filled(MiB), 0, MiB, 512));
    const run = forecast(extents, new CheckingTarget({ size: MiB }), {
      ...parts().options,
      provider: 'reflink',
    });
    await expect(run).rejects.toMatchObject({ code: 'OFFLOAD_UNSUPPORTED' });
  });
});
