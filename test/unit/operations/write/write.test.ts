/** `write`: what it refuses before anything is changed, and what it says when it stops later. */
import { describe, expect, it } from 'vitest';
import { write } from '../../../../src/operations/write.js';
import { CrashDisk } from '../../../support/crash-disk.js';
import { seededBytes } from '../../../support/sample-disk.js';
import { addImage, contentOf, hostOf } from '../merge/chains.js';
import { chunked, diskWith, type Kind, PARENT, TOP, writeTo } from './streams.js';

const SIZE = 2 * 1024 * 1024;
const DYNAMIC: Kind = { name: 'dynamic VHD', format: 'vhd', type: 'dynamic' };

async function unchanged(disk: CrashDisk, act: () => Promise<unknown>): Promise<unknown> {
  const before = disk.files();
  const failure = await act().then(
    () => undefined,
    (error: unknown) => error,
  );
  for (const [name, bytes] of disk.files())
    expect(Buffer.compare(bytes, before.get(name) ?? Buffer.of())).toBe(0);
  return failure;
}

const never: AsyncIterable<Uint8Array> = {
  [Symbol.asyncIterator]: () => {
    throw new Error('the stream was read');
  },
};

/** Sectors that are none of those that there may be. */
function strangeSectors(shown: Buffer, known: readonly Buffer[]): number[] {
  const strange: number[] = [];
  for (let at = 0; at < shown.length; at += 512) {
    const sector = shown.subarray(at, at + 512);
    if (!known.some((each) => sector.equals(each.subarray(at, at + 512)))) strange.push(at / 512);
  }
  return strange;
}

describe('write refuses before anything is read or changed', () => {
  it.each([
    ['a file that is too long', { inputLength: 1025, offset: SIZE - 1024 }, 'OUT_OF_RANGE'],
    ['a length that does not fit', { length: 1025, offset: SIZE - 1024 }, 'OUT_OF_RANGE'],
    ['an offset at the end', { offset: SIZE }, 'OUT_OF_RANGE'],
    ['an offset behind the end', { offset: 2 ** 45 }, 'OUT_OF_RANGE'],
    ['a file shorter than --length', { inputLength: 10, length: 11 }, 'INVALID_ARGUMENT'],
    ['a length of nothing', { length: 0 }, 'INVALID_ARGUMENT'],
  ])('%s', async (_, options, code) => {
    const { disk } = await diskWith(DYNAMIC, SIZE, []);
    const failure = await unchanged(disk, () => write(hostOf(disk), { path: TOP, input: never, ...options }));
    expect(failure).toMatchObject({ code, hint: expect.any(String) });
  });

  it('an image that others depend on, unless forced', async () => {
    const { disk } = await diskWith({ ...DYNAMIC, type: 'differencing' }, SIZE, []);
    const options = { path: PARENT, input: never, length: 512 };
    // Found by its name: one that the folder does not show as an image is not looked at.
    const shape = { format: 'vhd', blockSize: 65536, baseType: 'dynamic' } as const;
    await addImage(hostOf(disk), '/d/child.vhd', shape, SIZE, PARENT);
    const failure = await unchanged(disk, () => write(hostOf(disk), options));
    expect(failure).toMatchObject({ code: 'IN_USE', context: { children: ['/d/child.vhd'] } });
    const input = chunked(Buffer.alloc(512, 1));
    expect(await write(hostOf(disk), { ...options, input, force: true })).toMatchObject({ length: 512 });
  });

  it('an image, or a parent of it, that another process holds', async () => {
    for (const held of [TOP, PARENT]) {
      const { disk } = await diskWith({ ...DYNAMIC, type: 'differencing' }, SIZE, []);
      const host = hostOf(disk);
      const lock = await host.fileSystem.lock(held);
      const failure = await unchanged(disk, () => write(host, { path: TOP, input: never, length: 512 }));
      expect(failure).toMatchObject({ code: 'IN_USE', context: { path: held, pid: 1 } });
      await lock.release();
      await write(host, { path: TOP, input: chunked(Buffer.alloc(512)), length: 512 });
      // Given back: it can be taken again.
      await (await host.fileSystem.lock(TOP)).release();
    }
  });

  it('changes nothing in a dry run, and reads nothing', async () => {
    const { disk } = await diskWith(DYNAMIC, SIZE, []);
    const dry = { path: TOP, input: never, dryRun: true, offset: 1000 };
    const results: unknown[] = [];
    const act = async (): Promise<void> => {
      results.push(await write(hostOf(disk), dry));
      results.push(await write(hostOf(disk), { ...dry, inputLength: 4000 }));
      results.push(await write(hostOf(disk), { ...dry, inputLength: 4000, length: 7 }));
    };
    expect(await unchanged(disk, act)).toBeUndefined();
    expect(results).toMatchObject([{ length: null, dryRun: true }, { length: 4000 }, { length: 7 }]);
  });
});

describe('write that stops says how much is there', () => {
  it('when the stream goes on behind the end of the disk', async () => {
    const { disk, model } = await diskWith(DYNAMIC, SIZE, []);
    const offset = SIZE - 5000;
    const bytes = seededBytes(5001, 3);
    await expect(writeTo(disk, bytes, { offset, lengths: [700] })).rejects.toMatchObject({
      code: 'OUT_OF_RANGE',
      message: expect.stringContaining('5000 bytes were written'),
      context: { offset, length: 5000 },
    });
    bytes.copy(model, offset, 0, 5000);
    expect((await contentOf(hostOf(disk), TOP)).equals(model)).toBe(true);
  });

  it('when the stream is empty, or shorter than --length', async () => {
    const { disk, model } = await diskWith(DYNAMIC, SIZE, []);
    const empty = await unchanged(disk, () => writeTo(disk, Buffer.of()));
    expect(empty).toMatchObject({ code: 'IO_FAILED', message: expect.stringContaining('gave no bytes') });
    const bytes = seededBytes(1_500_000, 4);
    await expect(writeTo(disk, bytes, { offset: 1, length: 1_500_001 })).rejects.toMatchObject({
      code: 'IO_FAILED',
      context: { offset: 1, length: 1_500_000 },
    });
    bytes.copy(model, 1);
    expect((await contentOf(hostOf(disk), TOP)).equals(model)).toBe(true);
  });

  it('when it is cancelled', async () => {
    const { disk, model } = await diskWith(DYNAMIC, SIZE, []);
    const abort = new AbortController();
    const bytes = seededBytes(SIZE, 5);
    async function* input(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 1024 * 1024 + 10);
      yield bytes.subarray(1024 * 1024 + 10, 1024 * 1024 + 20);
      abort.abort();
    }
    const options = { path: TOP, input: input(), signal: abort.signal };
    const failure: unknown = await write(hostOf(disk), options).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'CANCELLED' });
    const { length } = (failure as { context: { length: number } }).context;
    expect(length).toBeGreaterThanOrEqual(1024 * 1024);
    bytes.copy(model, 0, 0, length);
    expect((await contentOf(hostOf(disk), TOP)).equals(model)).toBe(true);
  });

  it('when the storage is full: what it says is there, the rest is as it was', async () => {
    const fresh = await diskWith(DYNAMIC, SIZE, [{ kind: 'write', at: 0, sectors: 4000, fill: 9 }]);
    const bytes = seededBytes(SIZE, 6);
    let stops = 0;
    for (let room = 1; room < 40; room += 1) {
      const disk = new CrashDisk(fresh.disk.files());
      disk.fullAfter(room);
      const failure: unknown = await writeTo(disk, bytes).catch((error: unknown) => error);
      if (!(failure instanceof Error)) break;
      stops += 1;
      expect(failure).toMatchObject({ code: 'NO_SPACE' });
      disk.fullAfter(Number.POSITIVE_INFINITY);
      const shown = await contentOf(hostOf(disk), TOP);
      expect({ room, strange: strangeSectors(shown, [bytes, fresh.model]) }).toEqual({ room, strange: [] });
      const { length = 0 } = (failure as { context?: { length?: number } }).context ?? {};
      expect(shown.subarray(0, length).equals(bytes.subarray(0, length))).toBe(true);
    }
    expect(stops).toBeGreaterThan(0);
  });

  it('takes no more than --length of an endless stream', async () => {
    const { disk, model } = await diskWith(DYNAMIC, SIZE, []);
    let given = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        given += 1;
        yield Buffer.alloc(100_000, 7);
      }
    }
    const options = { path: TOP, input: endless(), offset: 3, length: 1_234_567 };
    expect(await write(hostOf(disk), options)).toMatchObject({ length: 1_234_567 });
    expect(given).toBeLessThanOrEqual(14);
    model.fill(7, 3, 3 + 1_234_567);
    expect((await contentOf(hostOf(disk), TOP)).equals(model)).toBe(true);
  });
});
