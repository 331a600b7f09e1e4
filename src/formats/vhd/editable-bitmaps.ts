/**
 * The sector bitmaps of an image that is being changed: as stored, with the changes that are not in the
 * file yet over them.
 *
 * Invariant: bitmaps of blocks that nothing names yet may be written at any time (`storeFresh`); those of
 * blocks in the table only after the sectors that their new bits stand for are durable (`storeChanged`).
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { vhdError } from './defects.js';
import { AsyncLru } from './lru.js';
import { fullBitmap, parseBitmap, type SectorBitmap, sectorsOf, setBits } from './sector-bitmap.js';

/** Sector bitmaps kept: at most 4 MiB with the largest blocks, 32 KiB with usual ones. */
export const BITMAP_CACHE = 64;

interface Change {
  /** Byte offset in the file. */
  offset: number;
  bitmap: SectorBitmap;
  /** Nothing in the file names the block yet. */
  fresh: boolean;
}

/** What bitmaps of a disk are like. Bytes. */
export interface BitmapShape {
  blockSize: number;
  bitmapBytes: number;
}

export class EditableBitmaps {
  readonly #file: RandomAccessFile;
  readonly #shape: BitmapShape;
  readonly #stored: AsyncLru<SectorBitmap>;
  /** By block. */
  readonly #changes = new Map<number, Change>();

  constructor(file: RandomAccessFile, shape: BitmapShape) {
    this.#file = file;
    this.#shape = shape;
    this.#stored = new AsyncLru(BITMAP_CACHE, (offset) => readBitmap(file, offset, shape));
  }

  /** Memory taken by changes, bytes. */
  get waiting(): number {
    return this.#changes.size * this.#shape.bitmapBytes;
  }

  /** True when a bitmap of a block in the table waits to be written. */
  get changed(): boolean {
    for (const { fresh } of this.#changes.values()) if (!fresh) return true;
    return false;
  }

  /** The bitmap of a block, whose stored form is at `offset`. Not to be changed. */
  get(block: number, offset: number): Promise<SectorBitmap> {
    const change = this.#changes.get(block);
    return change?.offset === offset ? Promise.resolve(change.bitmap) : this.#stored.get(offset);
  }

  /** A new block, without any sector or with all of them. */
  start(block: number, offset: number, full: boolean): void {
    this.#stored.forget(offset);
    const bitmap = full ? 'full' : new Uint8Array(this.#shape.bitmapBytes);
    this.#changes.set(block, { offset, bitmap, fresh: true });
  }

  /** Sets or clears the bits of sectors in `[start, end)`. */
  async mark(block: number, offset: number, start: number, end: number, present: boolean): Promise<void> {
    const old = await this.get(block, offset);
    if (old === 'full' && present) return;
    const { blockSize, bitmapBytes } = this.#shape;
    const bytes = old === 'full' ? fullBitmap(blockSize, bitmapBytes) : Uint8Array.from(old);
    setBits(bytes, start, end, present);
    const change = this.#changes.get(block);
    const fresh = change?.offset === offset && change.fresh;
    this.#changes.set(block, { offset, bitmap: parseBitmap(bytes, sectorsOf(blockSize)), fresh });
  }

  /** The block has no place any more. */
  forget(block: number, offset: number): void {
    this.#changes.delete(block);
    this.#stored.forget(offset);
  }

  async storeFresh(): Promise<void> {
    for (const change of this.#changes.values()) if (change.fresh) await this.#store(change);
  }

  async storeChanged(): Promise<void> {
    for (const change of this.#changes.values()) if (!change.fresh) await this.#store(change);
  }

  /** The changes are durable. */
  settle(): void {
    for (const { offset } of this.#changes.values()) this.#stored.forget(offset);
    this.#changes.clear();
  }

  async #store({ bitmap, offset }: Change): Promise<void> {
    const { blockSize, bitmapBytes } = this.#shape;
    await this.#file.write(bitmap === 'full' ? fullBitmap(blockSize, bitmapBytes) : bitmap, offset);
  }
}

/** @throws IMAGE_CORRUPT (the file ends within), IO_FAILED */
export async function readBitmap(
  file: RandomAccessFile,
  offset: number,
  shape: BitmapShape,
): Promise<SectorBitmap> {
  const bytes = new Uint8Array(shape.bitmapBytes);
  const count = await file.read(bytes, offset);
  if (count < bytes.length) {
    throw vhdError('IMAGE_CORRUPT', 'VHD_BAT_ENTRY_OUTSIDE_FILE', 'the file ends within a sector bitmap', {
      path: file.path,
      offset,
    });
  }
  return parseBitmap(bytes, sectorsOf(shape.blockSize));
}
