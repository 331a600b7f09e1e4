/**
 * The suite every disk image format passes: what the DiskImage contract promises, checked against a plain
 * byte array.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type RandomSource, systemRandom } from '../../src/base/random.js';
import type { Extent } from '../../src/block/extent.js';
import type { CreateImageOptions, DiskImage, FormatId } from '../../src/formats/disk-image.js';
import { readDisk } from '../../src/formats/image-reader.js';
import { createImage, openImage, probeFormat, resumeImage } from '../../src/formats/registry.js';
import { MemoryFile } from '../../src/io/memory-file.js';

export interface DiskImageSubject {
  name: string;
  format: FormatId;
  type: 'fixed' | 'dynamic';
  blockSize?: number;
  logicalSectorSize?: 512 | 4096;
  /** Granularity of virtual sizes. */
  sizeUnit: number;
}

const KiB = 1024;
const MiB = 1024 * KiB;
const random: RandomSource = systemRandom;

function optionsOf(subject: DiskImageSubject, virtualSize: number): CreateImageOptions {
  const options: CreateImageOptions = {
    type: subject.type,
    virtualSize,
    clock: { now: () => 1.7e12 },
    random,
  };
  if (subject.blockSize !== undefined) options.blockSize = subject.blockSize;
  if (subject.logicalSectorSize !== undefined) options.logicalSectorSize = subject.logicalSectorSize;
  return options;
}

async function make(
  subject: DiskImageSubject,
  virtualSize: number,
): Promise<{ file: MemoryFile; image: DiskImage }> {
  const file = new MemoryFile();
  return { file, image: await createImage(file, subject.format, optionsOf(subject, virtualSize)) };
}

async function put(image: DiskImage, offset: number, bytes: Uint8Array): Promise<void> {
  const write = await image.prepareWrite(offset, bytes.length);
  let at = offset;
  for (const place of write.places) {
    expect(place.offset).toBe(at);
    await place.file.write(bytes.subarray(at - offset, at - offset + place.length), place.fileOffset);
    at += place.length;
  }
  expect(at).toBe(offset + bytes.length);
  await write.commit();
}

function assertCovers(extents: Extent[], offset: number, length: number): void {
  let at = offset;
  for (const extent of extents) {
    expect(extent.offset).toBe(at);
    expect(extent.length).toBeGreaterThan(0);
    at += extent.length;
  }
  expect(at).toBe(offset + length);
}

/** The disk in pieces, so that locating starts and ends in the middle of blocks. */
async function content(image: DiskImage, step: number): Promise<Buffer> {
  const out = Buffer.alloc(image.virtualSize, 0xee);
  for (let at = 0; at < out.length; at += step) {
    const part = out.subarray(at, Math.min(at + step, out.length));
    assertCovers(await image.locate(at, part.length), at, part.length);
    await readDisk(image, part, at);
  }
  return out;
}

/** A copy that can be opened again after the first image was closed. */
async function reopen(file: MemoryFile): Promise<{ image: DiskImage; copy: MemoryFile }> {
  const copy = new MemoryFile(file.bytes());
  copy.writable = false;
  return { image: await openImage(copy), copy };
}

const writes = fc.array(
  fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), length: fc.integer({ min: 1, max: 9 * 512 }) }),
  {
    maxLength: 12,
  },
);

export function diskImageSuite(subject: DiskImageSubject): void {
  describe(`disk image contract: ${subject.name}`, () => {
    it('shows what was written, before and after it is opened again', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: (6 * MiB) / subject.sizeUnit }),
          writes,
          async (units, steps) => {
            const size = units * subject.sizeUnit;
            const model = Buffer.alloc(size);
            const { file, image } = await make(subject, size);
            for (const [index, { at, length }] of steps.entries()) {
              const offset = Math.floor(at * (size - 1));
              const bytes = Buffer.alloc(Math.min(length, size - offset), index + 1);
              await put(image, offset, bytes);
              bytes.copy(model, offset);
            }
            expect((await content(image, MiB + 512)).equals(model)).toBe(true);
            await image.flush();
            const again = await reopen(file);
            expect(again.image.virtualSize).toBe(size);
            expect(again.image.type).toBe(subject.type);
            expect((await content(again.image, 3 * MiB - 512)).equals(model)).toBe(true);
            expect((await again.image.check()).filter(({ severity }) => severity !== 'note')).toEqual([]);
            expect(again.image.warnings).toEqual([]);
            expect(Buffer.from(again.copy.bytes()).equals(Buffer.from(file.bytes()))).toBe(true);
          },
        ),
        { numRuns: 25 },
      );
    });

    it('is recognised by its content', async () => {
      const { file, image } = await make(subject, 4 * MiB);
      await image.flush();
      expect(await probeFormat(file)).toBe(subject.format);
    });

    it('reads as zeros when nothing was written', async () => {
      const { image } = await make(subject, 4 * MiB);
      await image.flush();
      expect(image.unwrittenIsZero).toBe(true);
      expect((await content(image, MiB)).every((byte) => byte === 0)).toBe(true);
    });

    it('refuses ranges outside the disk', async () => {
      const { image } = await make(subject, 4 * MiB);
      for (const [offset, length] of [
        [4 * MiB, 1],
        [0, 4 * MiB + 1],
        [-1, 1],
        [2 ** 53, 1],
        [0.5, 1],
        [0, -1],
      ] as const) {
        await expect(image.locate(offset, length)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
        await expect(image.prepareWrite(offset, length)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
      }
      expect(await image.locate(4 * MiB, 0)).toEqual([]);
    });

    it('is read-only once it was opened', async () => {
      const { file, image } = await make(subject, 4 * MiB);
      await image.flush();
      const again = await reopen(file);
      await expect(again.image.prepareWrite(0, 512)).rejects.toMatchObject({ code: 'READ_ONLY' });
    });

    it('can be flushed in the middle and written on', async () => {
      const { file, image } = await make(subject, 8 * MiB);
      const model = Buffer.alloc(8 * MiB);
      for (let step = 0; step < 4; step += 1) {
        const bytes = Buffer.alloc(4096, step + 1);
        await put(image, step * 2 * MiB, bytes);
        bytes.copy(model, step * 2 * MiB);
        await image.flush();
        const again = await reopen(file);
        expect((await content(again.image, 5 * MiB)).equals(model)).toBe(true);
      }
    });

    it('is taken up after an interruption, and what was flushed before it is there', async () => {
      const size = 8 * MiB;
      const step = fc.record({ at: fc.nat(size / 4096 - 1), flush: fc.boolean() });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 10 }), fc.nat(9), async (steps, crash) => {
          const model = Buffer.alloc(size);
          const { file, image } = await make(subject, size);
          await image.flush();
          let flushed = 0;
          const last = Math.min(crash, steps.length - 1);
          for (const [index, { at, flush }] of steps.slice(0, last).entries()) {
            await put(image, at * 4096, Buffer.alloc(4096, index + 1));
            if (flush) {
              await image.flush();
              flushed = index + 1;
            }
          }
          // Killed here: what was written since the last flush may or may not be in the file.
          const left = new MemoryFile(file.bytes());
          const again = await resumeImage(left, subject.format, optionsOf(subject, size));
          const before = await content(again, 3 * MiB);
          for (const [index, { at }] of steps.slice(0, flushed).entries()) {
            const later = steps.slice(index + 1, last).some((other) => other.at === at);
            if (!later) expect(before[at * 4096]).toBe(index + 1);
          }
          for (const [index, { at }] of steps.entries()) {
            const bytes = Buffer.alloc(4096, index + 1);
            if (index >= flushed) await put(again, at * 4096, bytes);
            bytes.copy(model, at * 4096);
          }
          await again.flush();
          const { image: complete } = await reopen(left);
          expect((await content(complete, 3 * MiB)).equals(model)).toBe(true);
          expect((await complete.check()).filter(({ severity }) => severity !== 'note')).toEqual([]);
        }),
        { numRuns: 20 },
      );
    });

    it('describes its layout', async () => {
      const { file, image } = await make(subject, 8 * MiB);
      await put(image, 0, Buffer.alloc(512, 1));
      await put(image, 7 * MiB, Buffer.alloc(512, 1));
      await image.flush();
      const layout = await (await reopen(file)).image.layout();
      expect(layout.extents).toBeGreaterThan(0);
      expect(layout.allocatedBlocks).toBeLessThanOrEqual(layout.totalBlocks);
      if (subject.type === 'dynamic' && (subject.blockSize ?? 0) <= 2 * MiB)
        expect(layout.allocatedBlocks).toBe(2);
      expect((layout.payloadAlignment ?? 0) % 4096).toBe(0);
    });
  });
}
