/**
 * The BAT and the sector bitmaps of an image that is being changed: reading and changing entries and bits.
 *
 * Invariant: changes only go to the dirty pages; each method says how many sectors of 4 KiB it changes, and
 * whoever calls it has reserved them, so that changes that belong together reach the file together.
 *
 * Not here: which state a block gets, and where space comes from.
 */
import { MiB } from '../../base/bytes.js';
import {
  BAT_ENTRY_LENGTH,
  type BatGeometry,
  BITMAP_STATE,
  bitmapIndex,
  encodeEntry,
  entryOffsetMiB,
  entryState,
  payloadIndex,
  sectorsPerBlock,
} from './bat.js';
import { viewOf } from './binary.js';
import type { DirtyPages } from './dirty-pages.js';
import { LOG_SECTOR } from './log-codec.js';
import { PAGE_LENGTH } from './page-cache.js';
import { clearBits, endOfRun, setBits } from './sector-bitmap.js';

/** An entry as it is, place in bytes; 0 stands for none. */
export interface BlockEntry {
  state: number;
  place: number;
}

export class BlockTable {
  readonly #pages: DirtyPages;
  readonly #geometry: BatGeometry;
  /** Byte offset of the BAT. */
  readonly #offset: number;
  /** Bytes of a sector bitmap that describe one block: a power of two, at most 64 KiB, never across pages. */
  readonly #bitmapPart: number;

  constructor(pages: DirtyPages, geometry: BatGeometry, offset: number) {
    this.#pages = pages;
    this.#geometry = geometry;
    this.#offset = offset;
    this.#bitmapPart = sectorsPerBlock(geometry) / 8;
  }

  /** Sectors that changing a block's entry, its bits and its chunk's entry can take. */
  get sectorsPerChange(): number {
    return 2 + Math.max(1, this.#bitmapPart / LOG_SECTOR);
  }

  chunkOf(block: number): number {
    return Math.floor(block / this.#geometry.chunkRatio);
  }

  async entry(block: number): Promise<BlockEntry> {
    return this.#read(payloadIndex(this.#geometry, block));
  }

  /**
   * The first block in `[block, end)` whose entry is not zero; `end` when there is none. Large tables are mostly
   * zeros: those are skipped without a promise per entry.
   */
  async nextUsed(block: number, end: number): Promise<number> {
    const { chunkRatio } = this.#geometry;
    for (let at = block; at < end; ) {
      const offset = this.#offset + payloadIndex(this.#geometry, at) * BAT_ENTRY_LENGTH;
      const inPage = offset % PAGE_LENGTH;
      const page = this.#pages.cached(offset - inPage) ?? (await this.#pages.load(offset - inPage));
      const inRun = Math.min(chunkRatio - (at % chunkRatio), (PAGE_LENGTH - inPage) / BAT_ENTRY_LENGTH);
      const stop = Math.min(end, at + inRun);
      for (let position = inPage; at < stop; at += 1, position += BAT_ENTRY_LENGTH) {
        if (page.getUint32(position, true) !== 0 || page.getUint32(position + 4, true) !== 0) return at;
      }
    }
    return end;
  }

  /** Changes one sector. */
  async setEntry(block: number, state: number, place = 0): Promise<void> {
    await this.#change(payloadIndex(this.#geometry, block), state, place);
  }

  /** Place of a chunk's sector bitmap; undefined when it has none. */
  async bitmap(chunk: number): Promise<number | undefined> {
    const { state, place } = await this.#read(bitmapIndex(this.#geometry, chunk));
    return state === BITMAP_STATE.present ? place : undefined;
  }

  /** Changes one sector. The space at `place` is all zeros, in the file too. */
  async setBitmap(chunk: number, place: number): Promise<void> {
    this.#pages.forget(place, MiB);
    await this.#change(bitmapIndex(this.#geometry, chunk), BITMAP_STATE.present, place);
  }

  /**
   * Marks sectors `[from, to)` of a block as stored here (or not), the chunk's bitmap being at `bitmap`.
   * @param fresh whether the block's other bits are to be cleared before
   */
  async mark(
    bitmap: number,
    block: number,
    range: { from: number; to: number },
    present: boolean,
    fresh = false,
  ): Promise<void> {
    const offset = this.#bitsOffset(bitmap, block);
    const start = fresh ? 0 : Math.floor(range.from / 8 / LOG_SECTOR) * LOG_SECTOR;
    const end = fresh ? this.#bitmapPart : Math.ceil(range.to / 8);
    await this.#pages.change(offset + start, end - start, (bytes) => {
      if (fresh) bytes.fill(0);
      const change = present ? setBits : clearBits;
      change(bytes, range.from - start * 8, range.to - start * 8);
    });
  }

  /** Which of a block's first `sectors` sectors are stored here: all, none, or some. */
  async presence(bitmap: number, block: number, sectors: number): Promise<'all' | 'none' | 'some'> {
    const bytes = await this.#pages.read(this.#bitsOffset(bitmap, block), this.#bitmapPart);
    const view = viewOf(bytes);
    if (endOfRun(view, 0, sectors) < sectors) return 'some';
    return (view.getUint8(0) & 1) === 1 ? 'all' : 'none';
  }

  #bitsOffset(bitmap: number, block: number): number {
    return bitmap + (block % this.#geometry.chunkRatio) * this.#bitmapPart;
  }

  async #read(index: number): Promise<BlockEntry> {
    const offset = this.#offset + index * BAT_ENTRY_LENGTH;
    const at = offset % PAGE_LENGTH;
    const page = this.#pages.cached(offset - at) ?? (await this.#pages.load(offset - at));
    const low = page.getUint32(at, true);
    return {
      state: entryState(low),
      place: entryOffsetMiB(low, page.getUint32(at + 4, true)) * MiB,
    };
  }

  async #change(index: number, state: number, place: number): Promise<void> {
    const offset = this.#offset + index * BAT_ENTRY_LENGTH;
    await this.#pages.change(offset, BAT_ENTRY_LENGTH, (_bytes, view) =>
      encodeEntry(view, 0, state, place / MiB),
    );
  }
}
