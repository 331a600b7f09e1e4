/**
 * The suite every editable image passes: what the EditableImage contract promises, checked against a plain
 * byte array, and at every instant at which a crash could strike.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../src/base/random.js';
import { Chain } from '../../src/formats/chain.js';
import type { CreateImageOptions, DiskImage, FormatId, ImageType } from '../../src/formats/disk-image.js';
import type { EditableImage, NewParentLink } from '../../src/formats/editable-image.js';
import { readDisk } from '../../src/formats/image-reader.js';
import { createImage, editImage, openImage } from '../../src/formats/registry.js';
import { MemoryFile } from '../../src/io/memory-file.js';
import { CrashDisk, type CrashState, openState } from '../support/crash-disk.js';

export interface EditableSubject {
  name: string;
  format: FormatId;
  type: ImageType;
  blockSize?: number;
  sectorSize?: 512 | 4096;
  /** Virtual size of the disk the steps are run on. */
  size: number;
  /** Size of the parent of a differencing image. */
  parentSize?: number;
}

const clock = { now: () => 1.7e12 };
const random = systemRandom;
const CHILD = 'child';
const PARENT = 'parent';

type Step =
  | { kind: 'write'; at: number; sectors: number; fill: number }
  | { kind: 'zero' | 'discard'; at: number; sectors: number }
  | { kind: 'flush' | 'reopen' };

const position = fc.double({ min: 0, max: 1, noNaN: true });
const length = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 24 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 6000 }) },
);
const change: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      at: position,
      sectors: length,
      fill: fc.integer({ min: 1, max: 255 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('zero' as const), at: position, sectors: length }) },
);
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: change },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('discard' as const), at: position, sectors: length }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('flush' as const, 'reopen' as const) }) },
);

function optionsOf(subject: EditableSubject, virtualSize: number, type: ImageType): CreateImageOptions {
  return {
    type,
    virtualSize,
    clock,
    random,
    ...(subject.blockSize === undefined ? {} : { blockSize: subject.blockSize }),
    ...(subject.sectorSize === undefined ? {} : { logicalSectorSize: subject.sectorSize }),
  };
}

export async function put(image: DiskImage, offset: number, bytes: Uint8Array): Promise<void> {
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

/** A parent with a pattern in it, its content, and how a child names it. */
async function makeParent(
  subject: EditableSubject,
): Promise<{ bytes: Uint8Array; content: Buffer; link: NewParentLink & { diskId: string | undefined } }> {
  const size = subject.parentSize ?? subject.size;
  const file = new MemoryFile(new Uint8Array(0), PARENT);
  const image = await createImage(file, subject.format, optionsOf(subject, size, 'dynamic'));
  const content = Buffer.alloc(size);
  for (let at = 0; at < size; at += 3 << 20) {
    const part = content.subarray(at, Math.min(size, at + (1 << 19)));
    for (let each = 0; each < part.length; each += 1) part[each] = (each * 7 + at / 512) & 0xff;
    await put(image, at, part);
  }
  await image.flush();
  const parent = await openImage(new MemoryFile(file.bytes(), PARENT));
  const link = {
    ids: [parent.linkId ?? ''] as const,
    absolutePath: '/images/parent',
    relativePath: 'parent',
    modified: 1.7e12,
    diskId: parent.id,
  };
  return { bytes: file.bytes(), content, link };
}

/** A fresh image of the subject on a crash disk, and what it shows. */
async function make(subject: EditableSubject): Promise<{ disk: CrashDisk; model: Buffer }> {
  const file = new MemoryFile(new Uint8Array(0), CHILD);
  const options = optionsOf(subject, subject.size, subject.type);
  const model = Buffer.alloc(subject.size);
  const files: [string, Uint8Array][] = [];
  if (subject.type === 'differencing') {
    const { bytes, content, link } = await makeParent(subject);
    options.parent = link;
    content.copy(model);
    files.push([PARENT, bytes]);
  }
  const image = await createImage(file, subject.format, options);
  await image.flush();
  files.push([CHILD, file.bytes()]);
  return { disk: new CrashDisk(files), model };
}

async function edit(disk: CrashDisk, subject: EditableSubject): Promise<EditableImage> {
  const file = await disk.fileSystem().open(CHILD, { writable: true });
  return editImage(file, { clock, random }, { format: subject.format });
}

/** What the image shows over its parent. */
async function contentOf(image: DiskImage, files: CrashState): Promise<Buffer> {
  const images = [image];
  if (files.has(PARENT)) images.push(await openImage(await openState(files, PARENT)));
  const out = Buffer.alloc(image.virtualSize);
  await readDisk(new Chain(images), out, 0);
  return out;
}

async function reread(
  files: CrashState,
  subject: EditableSubject,
): Promise<{ image: DiskImage; content: Buffer }> {
  const image = await openImage(await openState(files, CHILD), { format: subject.format });
  return { image, content: await contentOf(image, files) };
}

function rangeOf(step: { at: number; sectors: number }, subject: EditableSubject): [number, number] {
  const sector = subject.sectorSize ?? 512;
  const count = subject.size / sector;
  const first = Math.min(count - 1, Math.floor(step.at * count));
  return [first * sector, Math.min(step.sectors, count - first) * sector];
}

/** Runs a step on the image and on the model; what a discard did is to be looked at (`acceptDiscard`). */
async function run(image: EditableImage, model: Buffer, step: Step, subject: EditableSubject): Promise<void> {
  if (!('at' in step)) return image.flush();
  const [offset, bytes] = rangeOf(step, subject);
  if (step.kind === 'write') {
    const content = Buffer.alloc(bytes, step.fill);
    await put(image, offset, content);
    content.copy(model, offset);
  } else if (step.kind === 'zero') {
    await image.zero(offset, bytes);
    model.fill(0, offset, offset + bytes);
  } else await image.discard(offset, bytes);
}

function firstDifference(a: Buffer, b: Buffer): number {
  if (a.equals(b)) return -1;
  for (let at = 0; at < a.length; at += 1) if (a[at] !== b[at]) return at;
  return a.length;
}

/** After a discard every sector of the range is as it was or forgotten; nothing else changed. */
function acceptDiscard(
  model: Buffer,
  shown: Buffer,
  base: Buffer,
  step: Step,
  subject: EditableSubject,
): void {
  if (step.kind !== 'discard') return;
  const sector = subject.sectorSize ?? 512;
  const [offset, bytes] = rangeOf(step, subject);
  for (let at = offset; at < offset + bytes; at += sector) {
    const part = shown.subarray(at, at + sector);
    if (part.equals(base.subarray(at, at + sector))) part.copy(model, at);
  }
}

export function editableImageSuite(subject: EditableSubject): void {
  describe(`editable image contract: ${subject.name}`, () => {
    it('writes nothing as long as nothing is changed', async () => {
      const { disk } = await make(subject);
      const before = disk.files();
      disk.start();
      const image = await edit(disk, subject);
      await image.locate(0, image.virtualSize);
      await image.flush();
      await image.close();
      expect(Buffer.compare(disk.files().get(CHILD) ?? Buffer.of(), before.get(CHILD) ?? Buffer.of())).toBe(
        0,
      );
    });

    it('shows what was written, zeroed and discarded, at once and after it is opened again', async () => {
      const fresh = await make(subject);
      await fc.assert(
        fc.asyncProperty(fc.array(anyStep, { minLength: 1, maxLength: 12 }), async (steps) => {
          const disk = new CrashDisk(fresh.disk.files());
          const model = Buffer.from(fresh.model);
          let image = await edit(disk, subject);
          for (const step of steps) {
            await run(image, model, step, subject);
            if (step.kind === 'reopen') {
              await image.close();
              image = await edit(disk, subject);
            }
            const shown = await contentOf(image, disk.files());
            acceptDiscard(model, shown, fresh.model, step, subject);
            expect(firstDifference(shown, model)).toBe(-1);
          }
          await image.flush();
          await image.close();
          const again = await reread(disk.files(), subject);
          expect(firstDifference(again.content, model)).toBe(-1);
          // What was discarded after a place was found for something else stays behind unused.
          const found = (await again.image.check()).filter(
            ({ severity }) => !['note', 'leak'].includes(severity),
          );
          expect(found).toEqual([]);
          expect(again.image.warnings.filter(({ severity }) => severity !== 'note')).toEqual([]);
        }),
        { numRuns: 12, endOnFailure: true },
      );
    });

    it('shows in every sector the old or the new content after a crash at any instant', async () => {
      const fresh = await make(subject);
      // What is torn is torn at the sectors of the storage, which may be smaller than the disk's.
      const sector = 512;
      await fc.assert(
        fc.asyncProperty(
          fc.array(change, { minLength: 1, maxLength: 4 }),
          fc.array(change, { minLength: 1, maxLength: 4 }),
          fc.integer({ min: 1, max: 2 ** 31 }),
          async (before, steps, seed) => {
            const disk = new CrashDisk(fresh.disk.files());
            const model = Buffer.from(fresh.model);
            const first = await edit(disk, subject);
            for (const step of before) await run(first, model, step, subject);
            await first.flush();
            await first.close();
            disk.start();
            const versions = [Buffer.from(model)];
            const image = await edit(disk, subject);
            for (const step of steps) {
              await run(image, model, step, subject);
              versions.push(Buffer.from(model));
            }
            await image.flush();
            await image.close();
            const every = Math.max(1, Math.floor(disk.count / 25));
            for (const { state, label } of disk.states({ seed, every, reorderings: 1 })) {
              const { content } = await reread(state, subject);
              for (let at = 0; at < content.length; at += sector) {
                const part = content.subarray(at, at + sector);
                const known = versions.some((version) => version.subarray(at, at + sector).equals(part));
                if (!known) throw new Error(`${label}: the sector at ${at} shows what was never there`);
              }
            }
            const last = await reread(disk.files(), subject);
            expect(firstDifference(last.content, model)).toBe(-1);
          },
        ),
        { numRuns: 3, endOnFailure: true },
      );
    });

    it('refuses ranges that are not inside the disk or not whole sectors', async () => {
      const { disk } = await make(subject);
      const image = await edit(disk, subject);
      const sector = subject.sectorSize ?? 512;
      await expect(image.prepareWrite(subject.size, sector)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
      await expect(image.zero(-sector, sector)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
      if (subject.format !== 'raw') {
        await expect(image.prepareWrite(1, sector)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
        await expect(image.prepareWrite(0, 1)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      }
    });
  });
}
