/**
 * What every kind of write-once device does: one write for each chunk, whoever asks first, and an answer that is no
 * data for those that nobody has written.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/base/errors.js';
import type { ChunkWrite, WriteOnceDevice } from '../../src/block/write-once-device.js';
import type { Expectations } from '../../src/layers/write-once/shape.js';
import { filled } from '../support/write-once-content.js';

export { filled };

export interface WriteOnceKit {
  chunkSize: number;
  /** A new device for `chunks` chunks and `tail` bytes, closed. */
  create(chunks: number, tail: number): Promise<WriteOnceHandle>;
}

export interface WriteOnceHandle {
  open(expected?: Expectations & { writable?: boolean }): Promise<WriteOnceDevice>;
  /** Whether it can be open several times at once. */
  shared: boolean;
}

export const PRIMARY = 'primary 4711';

export async function refusal(action: Promise<unknown>): Promise<ErrorCode | 'nothing'> {
  return action.then(
    () => 'nothing' as const,
    (error: { code: ErrorCode }) => error.code,
  );
}

/** Arrays of a mebibyte are compared as bytes: element by element takes seconds. */
export function expectChunk(found: Uint8Array | undefined, wanted: Uint8Array, label?: string): void {
  expect(found !== undefined && Buffer.compare(found, wanted) === 0, label).toBe(true);
}

export async function put(write: ChunkWrite, bytes: Uint8Array): Promise<void> {
  expect(write.place.length).toBe(bytes.length);
  await write.place.file.write(bytes, write.place.fileOffset);
}

export async function begun(device: WriteOnceDevice, chunk: number): Promise<ChunkWrite> {
  const write = await device.begin(chunk);
  if (write === 'written') throw new Error(`chunk ${chunk} has been written`);
  return write;
}

export async function readChunk(device: WriteOnceDevice, chunk: number): Promise<Uint8Array | undefined> {
  const place = await device.locate(chunk);
  if (!place) return undefined;
  const bytes = new Uint8Array(place.length);
  expect(await place.file.read(bytes, place.fileOffset)).toBe(bytes.length);
  return bytes;
}

export async function writtenOf(device: WriteOnceDevice): Promise<number[]> {
  const chunks: number[] = [];
  for await (const chunk of device.written()) chunks.push(chunk);
  return chunks;
}

/** Writes a chunk as `writer`; `lost` when somebody else had or has done it. */
export async function writeChunk(
  device: WriteOnceDevice,
  chunk: number,
  writer = 1,
): Promise<'written' | 'lost'> {
  const write = await device.begin(chunk);
  if (write === 'written') return 'lost';
  try {
    await put(write, filled(write.place.length, chunk, writer));
  } catch (error) {
    await write.abandon();
    throw error;
  }
  return write.seal();
}

function lengthOf(device: WriteOnceDevice, chunk: number): number {
  return Math.min(device.chunkSize, device.size - chunk * device.chunkSize);
}

export function writeOnceSuite(name: string, kit: () => WriteOnceKit): void {
  describe(`write-once device, ${name}`, () => {
    it('begins empty, with the addresses of its primary', async () => {
      const { chunkSize, create } = kit();
      const device = await (await create(5, 512)).open({ empty: true, primaryId: PRIMARY });
      expect([device.size, device.chunkSize, device.primaryId]).toEqual([
        5 * chunkSize + 512,
        chunkSize,
        PRIMARY,
      ]);
      expect(await writtenOf(device)).toEqual([]);
      for (let chunk = 0; chunk < 6; chunk += 1) {
        expect(await device.isWritten(chunk)).toBe(false);
        expect(await device.locate(chunk)).toBeUndefined();
      }
      await device.close();
    });

    it('takes each chunk once, the short last one too, and keeps it', async () => {
      const handle = await kit().create(3, 1024);
      const device = await handle.open();
      for (const chunk of [2, 0, 3]) {
        const write = await begun(device, chunk);
        expect(write.place.length).toBe(lengthOf(device, chunk));
        await put(write, filled(write.place.length, chunk));
        expect(await device.locate(chunk)).toBeUndefined();
        expect(await write.seal()).toBe('written');
        expectChunk(await readChunk(device, chunk), filled(lengthOf(device, chunk), chunk));
        expect(await device.begin(chunk)).toBe('written');
      }
      expect(await writtenOf(device)).toEqual([0, 2, 3]);
      expect(await device.allocatedBytes()).toBeGreaterThan(0);
      await device.close();
      for (const writable of [true, false]) {
        const again = await handle.open({ writable, primaryId: PRIMARY, size: device.size });
        expect(await writtenOf(again)).toEqual([0, 2, 3]);
        for (const chunk of [0, 2, 3])
          expectChunk(await readChunk(again, chunk), filled(lengthOf(again, chunk), chunk));
        expect(await again.isWritten(1)).toBe(false);
        if (writable) expect(await again.begin(2)).toBe('written');
        else expect(await refusal(again.begin(1))).toBe('READ_ONLY');
        await again.close();
      }
    });

    it('forgets a write that is abandoned, and one that is not sealed when it is closed', async () => {
      const handle = await kit().create(2, 0);
      const device = await handle.open();
      const write = await begun(device, 0);
      await put(write, filled(write.place.length, 0, 9));
      await write.abandon();
      expect(await device.isWritten(0)).toBe(false);
      expect(await writeChunk(device, 0)).toBe('written');
      const open = await begun(device, 1);
      await put(open, filled(open.place.length, 1));
      await device.close();
      const again = await handle.open();
      expect(await writtenOf(again)).toEqual([0]);
      expectChunk(await readChunk(again, 0), filled(again.chunkSize, 0));
      expect(await writeChunk(again, 1)).toBe('written');
      await again.close();
    });

    it('seals many at once, each with its answer', async () => {
      const device = await (await kit().create(9, 512)).open();
      const writes: ChunkWrite[] = [];
      for (const chunk of [9, 1, 5, 7]) {
        const write = await begun(device, chunk);
        await put(write, filled(write.place.length, chunk));
        writes.push(write);
      }
      expect(await device.sealAll(writes)).toEqual(['written', 'written', 'written', 'written']);
      expect(await device.sealAll([])).toEqual([]);
      expect(await writtenOf(device)).toEqual([1, 5, 7, 9]);
      for (const chunk of [1, 5, 7, 9])
        expectChunk(await readChunk(device, chunk), filled(lengthOf(device, chunk), chunk));
      await device.close();
    });

    it('lets one of many win each chunk', async () => {
      const device = await (await kit().create(4, 0)).open();
      const writers = Array.from({ length: 24 }, (_, index) => ({ chunk: index % 4, writer: index + 1 }));
      const ends = await Promise.all(writers.map(({ chunk, writer }) => writeChunk(device, chunk, writer)));
      for (let chunk = 0; chunk < 4; chunk += 1) {
        const winners = writers.filter((each, index) => each.chunk === chunk && ends[index] === 'written');
        expect(winners.length).toBe(1);
        expectChunk(await readChunk(device, chunk), filled(device.chunkSize, chunk, winners[0]?.writer ?? 0));
      }
      await device.close();
    });

    it('refuses to be another device than the one expected', async () => {
      const handle = await kit().create(2, 512);
      const size = 2 * kit().chunkSize + 512;
      const cases: [Expectations, string][] = [
        [{ primaryId: 'another' }, 'primary'],
        [{ size: size + 512 }, 'size'],
        [{ size: size - 512 }, 'size'],
        [{ chunkSize: 2 * kit().chunkSize }, 'chunk-size'],
      ];
      for (const [expected, reason] of cases) {
        const error = await handle.open(expected).then(
          () => undefined,
          (thrown: { code: string; context: object }) => thrown,
        );
        expect(error).toMatchObject({ code: 'WRITE_ONCE_MISMATCH', context: { reason } });
      }
      const device = await handle.open({ empty: true });
      expect(await writeChunk(device, 1)).toBe('written');
      await device.close();
      expect(await refusal(handle.open({ empty: true }))).toBe('WRITE_ONCE_MISMATCH');
    });

    it('says of itself what a simple model says, whatever is done to it', async () => {
      const { create } = kit();
      const step = fc.record({
        chunk: fc.nat(6),
        act: fc.constantFrom('write', 'write', 'abandon', 'reopen'),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
          const handle = await create(6, 512);
          let device = await handle.open();
          const model = new Map<number, number>();
          for (const [index, { chunk, act }] of steps.entries()) {
            if (act === 'reopen') {
              await device.close();
              device = await handle.open();
            } else if (act === 'abandon') {
              const write = await device.begin(chunk);
              expect(write === 'written').toBe(model.has(chunk));
              if (write !== 'written') await write.abandon();
            } else {
              expect(await writeChunk(device, chunk, index)).toBe(model.has(chunk) ? 'lost' : 'written');
              if (!model.has(chunk)) model.set(chunk, index);
            }
          }
          expect(await writtenOf(device)).toEqual([...model.keys()].sort((a, b) => a - b));
          for (const [chunk, writer] of model)
            expectChunk(await readChunk(device, chunk), filled(lengthOf(device, chunk), chunk, writer));
          await device.close();
        }),
        { numRuns: 12, endOnFailure: true },
      );
    });
  });
}
