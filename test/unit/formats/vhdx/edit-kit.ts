/**
 * What tests of editable VHDX images share: a disk as plain bytes beside the image, and changes of both.
 *
 * A sector of the model is -1 where the image asks its parent.
 */
import fc from 'fast-check';
import { MiB } from '../../../../src/base/bytes.js';
import { systemRandom } from '../../../../src/base/random.js';
import type { CreateImageOptions } from '../../../../src/formats/disk-image.js';
import type { EditableImage, WriteAccess } from '../../../../src/formats/editable-image.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { editVhdx } from '../../../../src/formats/vhdx/edit.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import type { RandomAccessFile } from '../../../../src/io/random-access-file.js';
import { overriding } from '../../../support/overriding.js';

export const access: WriteAccess = { clock: { now: () => 1.7e12 }, random: systemRandom };

export const PARENT = {
  ids: ['ab12cabe-e6b2-4345-93ef-c309e000c746'] as const,
  absolutePath: '/images/parent.vhdx',
  relativePath: 'parent.vhdx',
  modified: 0,
  diskId: '01234567-89ab-4cde-8f01-23456789abcd',
};

/** Byte that stands for the parent's content. */
export const PARENTS = 0xa5;

export interface Change {
  kind: 'write' | 'zero' | 'discard' | 'flush' | 'reopen' | 'abort';
  /** In sectors; clipped to the disk. */
  sector: number;
  count: number;
  value: number;
}

export const changes = (sectors: number, maxLength: number): fc.Arbitrary<Change[]> =>
  fc.array(
    fc.record({
      kind: fc.constantFrom<Change['kind'][]>(
        'write',
        'write',
        'write',
        'zero',
        'discard',
        'flush',
        'reopen',
        'abort',
      ),
      sector: fc.integer({ min: 0, max: sectors - 1 }),
      count: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: sectors })),
      value: fc.integer({ min: 1, max: 250 }),
    }),
    { maxLength },
  );

/** Puts bytes onto an image's disk. */
export async function put(image: EditableImage, offset: number, bytes: Uint8Array): Promise<void> {
  const write = await image.prepareWrite(offset, bytes.length);
  for (const place of write.places) {
    const at = place.offset - offset;
    await place.file.write(bytes.subarray(at, at + place.length), place.fileOffset);
  }
  await write.commit();
}

/** The disk's content, with what is the parent's shown as PARENTS. */
export async function contentOf(image: Pick<EditableImage, 'virtualSize' | 'locate'>): Promise<Buffer> {
  const out = Buffer.alloc(image.virtualSize);
  await readDisk(image, out, 0);
  for (const extent of await image.locate(0, image.virtualSize)) {
    if (extent.state === 'absent') out.fill(PARENTS, extent.offset, extent.offset + extent.length);
  }
  return out;
}

export async function reopened(file: RandomAccessFile): Promise<Awaited<ReturnType<typeof vhdxDriver.open>>> {
  const bytes = Buffer.alloc(file.size());
  await file.read(bytes, 0);
  const copy = new MemoryFile(bytes);
  copy.writable = false;
  return vhdxDriver.open(copy, {});
}

/** An image in a memory file with its model. Closing the image leaves the file usable. */
export class EditedDisk {
  image: EditableImage;
  readonly model: Buffer;
  readonly file: MemoryFile;

  constructor(image: EditableImage, model: Buffer, file: MemoryFile) {
    this.image = image;
    this.model = model;
    this.file = file;
  }

  static async open(file: MemoryFile): Promise<EditedDisk> {
    const image = await editVhdx(keptOpen(file), access);
    return new EditedDisk(image, await contentOf(image), file);
  }

  async apply(change: Change): Promise<void> {
    const sector = this.image.logicalSectorSize;
    const offset = change.sector * sector;
    const length = Math.min(change.count * sector, this.image.virtualSize - offset);
    switch (change.kind) {
      case 'write':
        await put(this.image, offset, Buffer.alloc(length, change.value));
        this.model.fill(change.value, offset, offset + length);
        return;
      case 'abort':
        await (await this.image.prepareWrite(offset, length)).abort();
        return;
      case 'zero':
        await this.image.zero(offset, length);
        this.model.fill(0, offset, offset + length);
        return;
      case 'discard':
        await this.#discard(offset, length);
        return;
      case 'flush':
        return this.image.flush();
      case 'reopen':
        await this.image.flush();
        await this.image.close();
        this.image = await editVhdx(keptOpen(this.file), access);
    }
  }

  /** What may be forgotten is up to the format; what is left must be as it was or as if never written. */
  async #discard(offset: number, length: number): Promise<void> {
    await this.image.discard(offset, length);
    const after = await contentOf(this.image);
    const empty = this.image.type === 'differencing' ? PARENTS : 0;
    for (let at = offset; at < offset + length; at += this.image.logicalSectorSize) {
      if (after[at] === empty) this.model.fill(empty, at, at + this.image.logicalSectorSize);
    }
  }
}

/** A new image of blocks of 1 MiB, complete. */
export async function newImage(
  type: CreateImageOptions['type'],
  virtualSize: number,
  logicalSectorSize: 512 | 4096 = 512,
  parent: NonNullable<CreateImageOptions['parent']> = PARENT,
): Promise<MemoryFile> {
  const file = new MemoryFile();
  const image = await vhdxDriver.create(keptOpen(file), {
    type,
    virtualSize,
    logicalSectorSize,
    blockSize: MiB,
    clock: { now: () => 0 },
    random: systemRandom,
    ...(type === 'differencing' ? { parent } : {}),
  });
  await image.flush();
  await image.close();
  return file;
}

/** The same bytes through a handle of its own, as another open would have it. */
export function keptOpen(file: RandomAccessFile): RandomAccessFile {
  return overriding<RandomAccessFile>(file, { close: async () => undefined });
}
