/**
 * Storage that is full, on a file system that gives out storage page by page: what was accepted can be made durable
 * without any more of it, and giving back blocks makes room.
 */
import { describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../../../src/base/bytes.js';
import { VhdkitError } from '../../../../src/base/errors.js';
import { isZero } from '../../../../src/base/zeros.js';
import { editVhdx } from '../../../../src/formats/vhdx/edit.js';
import type { EditableVhdx } from '../../../../src/formats/vhdx/editable-vhdx.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import type { RandomAccessFile } from '../../../../src/io/random-access-file.js';
import { overriding } from '../../../support/overriding.js';
import { access, contentOf, keptOpen, newImage, put, reopened } from './edit-kit.js';

const PAGE = 4 * KiB;
const SECTOR = 512;
const BLOCKS = 2;

/** A sparse file on storage with room for so many more pages. */
class SparseFile {
  readonly bytes: MemoryFile;
  readonly #stored = new Set<number>();
  room: number;

  constructor(bytes: Uint8Array, room: number) {
    this.bytes = new MemoryFile(bytes);
    this.room = room;
    for (let at = 0; at < bytes.length; at += PAGE) {
      if (!isZero(bytes.subarray(at, at + PAGE))) this.#stored.add(at / PAGE);
    }
  }

  open(): RandomAccessFile {
    const { bytes } = this;
    return overriding<RandomAccessFile>(bytes, {
      close: async () => undefined,
      write: async (buffer, offset) => {
        this.#take(offset, buffer.length);
        await bytes.write(buffer, offset);
      },
      allocate: async (offset, length) => this.#take(offset, length),
      zero: async (offset, length) => {
        this.#give(offset, offset + length);
        await bytes.zero(offset, length);
      },
      punch: async (offset, length) => {
        this.#give(offset, offset + length);
        await bytes.zero(offset, length);
        return true;
      },
    });
  }

  #take(offset: number, length: number): void {
    for (let page = Math.floor(offset / PAGE); page * PAGE < offset + length; page += 1) {
      if (this.#stored.has(page)) continue;
      if (this.room === 0) throw new VhdkitError('NO_SPACE', 'full');
      this.room -= 1;
      this.#stored.add(page);
    }
  }

  #give(offset: number, end: number): void {
    for (let page = Math.ceil(offset / PAGE); (page + 1) * PAGE <= end; page += 1) {
      if (this.#stored.delete(page)) this.room += 1;
    }
  }
}

async function isFull(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return false;
  } catch (error) {
    expect(error).toMatchObject({ code: 'NO_SPACE' });
    return true;
  }
}

/** Writes here and there until nothing more is accepted. Answers what the disk must show; undefined: either. */
async function fill(image: EditableVhdx, model: (number | undefined)[]): Promise<boolean> {
  for (let value = 1; value < 200; value += 1) {
    const sector = (value * 1021) % (model.length - 20);
    const full = await isFull(put(image, sector * SECTOR, Buffer.alloc(20 * SECTOR, value)));
    model.fill(full ? undefined : value, sector, sector + 20);
    if (full) return true;
  }
  return false;
}

async function expectShown(file: SparseFile, model: readonly (number | undefined)[], label: string) {
  const shown = await contentOf(await reopened(file.bytes));
  const wrong = model.flatMap((value, sector) => {
    const isRight = value === undefined || shown[sector * SECTOR] === value;
    return isRight ? [] : [`sector ${sector}: ${shown[sector * SECTOR]}, not ${value}`];
  });
  expect(wrong, label).toEqual([]);
}

describe.each(['dynamic', 'differencing'] as const)('a %s image on full storage', (type) => {
  it('keeps all that it accepted, and makes room by giving back', async () => {
    const start = (await newImage(type, BLOCKS * MiB)).bytes();
    const before = await contentOf(await editVhdx(new MemoryFile(start), access));
    let accepted = 0;
    // The log takes 254.
    for (let room = 252; room < 280; room += room < 264 ? 1 : 6) {
      const label = `room for ${room} pages`;
      const file = new SparseFile(start, room);
      const image = await editVhdx(file.open(), access);
      const model = Array.from({ length: before.length / SECTOR }, (_, at) => before[at * SECTOR]);
      expect(await fill(image, model), label).toBe(true);
      if (!model.some((value) => value !== undefined && value !== before[0])) {
        // The first change of all: the file is what it was, but for ids.
        await image.close();
        await expectShown(file, model, label);
        continue;
      }
      accepted += 1;
      await image.flush();
      await expectShown(file, model, `${label}, flushed`);
      // Of a block that is stored, whole.
      await image.discard(0, MiB);
      await image.flush();
      model.fill(undefined, 0, MiB / SECTOR);
      if (file.room > 20) await put(image, 0, Buffer.alloc(SECTOR, 255));
      if (file.room > 20) model[0] = 255;
      await image.flush();
      await image.close();
      await expectShown(file, model, `${label}, closed`);
    }
    expect(accepted).toBeGreaterThan(4);
  });

  it('asks for little where nothing of the disk changes, as compacting does', async () => {
    const empty = await newImage(type, BLOCKS * MiB);
    const image = await editVhdx(keptOpen(empty), access);
    await put(image, 0, Buffer.alloc(MiB, 0));
    await image.flush();
    await image.close();
    // As `cp --sparse` leaves it: the log of before is a hole.
    const start = empty.bytes();
    start.fill(0, MiB, 2 * MiB);
    const file = new SparseFile(start, 8);
    const sparse = await editVhdx(file.open(), access);
    await sparse.zero(0, MiB, { unchanged: true });
    await sparse.flush();
    await sparse.close();
    const { extents, allocatedBlocks } = await (await reopened(file.bytes)).layout();
    expect([extents, allocatedBlocks]).toEqual([0, 0]);
  });

  it('refuses the first change, and takes it when there is room', async () => {
    const file = new SparseFile((await newImage(type, BLOCKS * MiB)).bytes(), 100);
    const image = await editVhdx(file.open(), access);
    const first = (): Promise<void> => put(image, 0, Buffer.alloc(SECTOR, 1));
    expect(await isFull(first())).toBe(true);
    expect(await isFull(first())).toBe(true);
    file.room += 1000;
    await first();
    file.room = 0;
    await image.flush();
    await image.close();
    expect((await contentOf(await reopened(file.bytes)))[0]).toBe(1);
  });
});
