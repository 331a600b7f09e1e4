/**
 * Room for new blocks in an image that is being changed.
 *
 * Invariants: a place that is handed out lies before the footer, belongs to nobody and reads as zeros. The
 * footer goes up first and is durable there before anything is put where it was. A place that was given up
 * is handed out again only after `settle`, which the caller calls when nothing in the file names it any more.
 *
 * The footer is moved up by more than one block at a time, because each move takes a flush; `lowerFooter` and
 * `cutTail` bring it back to the last block. Space that no block uses is left alone: that is for compaction.
 */
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import { Turns } from '../../base/turns.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { BlockSlots } from './block-slots.js';
import { FOOTER_BYTES } from './footer.js';
import type { FooterPair } from './footer-pair.js';

/** The footer is moved up by at most this much more than is needed. */
const MAX_RESERVE = 256 * 1024 * 1024;

/** Part of a block's place that holds nothing of use any more. Bytes. */
export interface FreedRange {
  block: number;
  fileOffset: number;
  length: number;
}

/** What blocks of the disk are like. Bytes. */
export interface BlockShape {
  blockSize: number;
  bitmapBytes: number;
}

export class BlockSpace {
  readonly #file: RandomAccessFile;
  readonly #footers: FooterPair;
  readonly #slots: BlockSlots;
  readonly #shape: BlockShape;
  /** Bytes of the file before this may be anything. */
  #dirtyEnd: number;
  /** The footer does not go below: whoever made the image left room before it. */
  #floor: number;
  #reserve: number;
  /** Places of blocks that were given up, by data offset. */
  #retired: number[] = [];
  readonly #reserving = new Turns();
  /** Parts of places. */
  #freed: FreedRange[] = [];

  /** @param end where everything in the file ends, bytes */
  constructor(file: RandomAccessFile, footers: FooterPair, end: number, shape: BlockShape) {
    this.#file = file;
    this.#footers = footers;
    this.#shape = shape;
    this.#slots = new BlockSlots(file.path, end, shape.blockSize, shape.bitmapBytes);
    this.#dirtyEnd = file.size();
    this.#floor = footers.complete ? footers.limit : 0;
    this.#reserve = shape.blockSize;
  }

  /** Where a footer belongs that is not there yet. */
  get footerPlace(): number {
    const size = this.#file.size();
    const last = size - FOOTER_BYTES;
    if (size % FOOTER_BYTES === 0 && last >= this.#slots.end) return last;
    const above = Math.ceil(size / FOOTER_BYTES) * FOOTER_BYTES;
    return this.#file.kind === 'device' ? last : Math.max(above, this.#slots.footerOffset);
  }

  /** End of everything placed so far. */
  get end(): number {
    return this.#slots.end;
  }

  /** Places and parts of places that wait for `settle`. */
  get waiting(): number {
    return this.#retired.length + this.#freed.length;
  }

  /** Length of the file when the last block ends at `end`. */
  lengthFor(end: number): number {
    return this.#slots.footerAfter(end) + FOOTER_BYTES;
  }

  entryOf(dataOffset: number): number {
    return this.#slots.entryOf(dataOffset);
  }

  /**
   * The data offset of a place for a block. Its bitmap stands right before and is not written yet.
   * @throws TARGET_TOO_SMALL, NO_SPACE, IO_FAILED
   */
  async take(): Promise<number> {
    const before = this.#slots.end;
    const dataOffset = this.#slots.take();
    // Places that are used again were zeroed when they were given up.
    if (this.#slots.end === before) return dataOffset;
    const end = dataOffset + this.#shape.blockSize;
    try {
      await this.reach(end);
      await this.#clean(dataOffset - this.#shape.bitmapBytes, end);
      return dataOffset;
    } catch (error) {
      this.#slots.undo(dataOffset);
      throw error;
    }
  }

  /**
   * Gives the bitmap of a place storage, so that making the block durable needs no more. One after the other, beside
   * whatever is put into the places meanwhile; who does not wait for it is not told of a failure.
   * @throws NO_SPACE, IO_FAILED
   */
  reserveBitmap(dataOffset: number): Promise<void> {
    const { bitmapBytes } = this.#shape;
    return this.#reserving.take(async () => this.#file.allocate?.(dataOffset - bitmapBytes, bitmapBytes));
  }

  /** Gives back a place that nothing ever named. */
  async giveBack(dataOffset: number): Promise<void> {
    await this.#file.zero(dataOffset, this.#shape.blockSize);
    this.#slots.giveBack(dataOffset);
  }

  /** A block was put at a place that was free. */
  occupy(dataOffset: number): void {
    const { bitmapBytes, blockSize } = this.#shape;
    const end = dataOffset + blockSize;
    this.#slots.occupyAt(dataOffset - bitmapBytes, end);
    this.#dirtyEnd = Math.max(this.#dirtyEnd, end);
  }

  /** A block gave its place up, but the file still names it. */
  retire(dataOffset: number): void {
    this.#retired.push(dataOffset);
  }

  /** A part of a block's place is of no use any more, but the file still names it. */
  free(range: FreedRange): void {
    this.#freed.push(range);
  }

  /** Blocks that are written to again: what was freed in them stays. */
  keep(first: number, count: number): void {
    if (this.#freed.length === 0) return;
    this.#freed = this.#freed.filter(({ block }) => block < first || block >= first + count);
  }

  /** Room for other structures behind everything, before the footer; reads as zeros. Bytes. */
  async takeTail(length: number): Promise<number> {
    const start = this.#slots.end;
    await this.reserve(start, start + length);
    return start;
  }

  /** The tail that was taken last is not used any more. */
  returnTail(start: number): void {
    this.#slots.endAt(start);
  }

  /** No block is placed in the range from now on; what lies there stays. The footer goes behind it. */
  async reserve(start: number, end: number): Promise<void> {
    this.#slots.withhold(start, end);
    const before = this.#slots.end;
    if (end <= before) return;
    await this.reach(end);
    await this.#clean(Math.max(start, before), end);
    this.#slots.endAt(end);
  }

  /** Everything ends at `end` now: what was behind is not used any more. */
  endAt(end: number): void {
    this.#slots.endAt(end);
    this.#floor = Math.min(this.#floor, this.#slots.footerOffset);
  }

  /** True when the last place of the file was given back. */
  get endIsFree(): boolean {
    return this.#slots.endIsFree;
  }

  /**
   * Writes the footer behind the last block, if it is further up. Answers its place for `cutTail`; undefined also where
   * there is no storage for it there: it is good where it is.
   */
  async lowerFooter(): Promise<number | undefined> {
    const at = Math.max(this.#slots.footerOffset, this.#floor);
    if (this.#file.kind === 'device' || at >= this.#footers.limit) return undefined;
    this.#dirtyEnd = Math.max(this.#dirtyEnd, at + FOOTER_BYTES);
    try {
      await this.#footers.lower(at);
    } catch (error) {
      if (isVhdkitError(error) && error.code === 'NO_SPACE') return undefined;
      throw error;
    }
    return at;
  }

  /** Cuts the file off behind a lowered footer, which is durable. */
  async cutTail(at: number): Promise<void> {
    await this.#footers.cut(at);
    this.#dirtyEnd = Math.min(this.#dirtyEnd, this.#file.size());
  }

  /** The file names nothing any more that was given up: the storage can go, the places be used again. */
  async settle(): Promise<void> {
    for (const { fileOffset, length } of this.#freed) await this.#file.zero(fileOffset, length);
    this.#freed = [];
    for (const dataOffset of this.#retired) await this.giveBack(dataOffset);
    this.#retired = [];
  }

  /** Zeroes what earlier owners may have left in a range that is free. */
  async #clean(start: number, end: number): Promise<void> {
    const dirty = Math.min(this.#dirtyEnd, end);
    if (dirty > start) await this.#file.zero(start, dirty - start);
  }

  /** Moves the footer up so that everything before `end` can be used. */
  async reach(end: number): Promise<void> {
    if (end <= this.#footers.limit) return;
    if (this.#file.kind === 'device') {
      const { path } = this.#file;
      throw new VhdkitError('NO_SPACE', `${path}: no room for another block on the device`, {
        operation: 'allocate block',
        context: { path, offset: end },
        hint: 'Make the volume larger; the footer has to be moved to its new end then.',
      });
    }
    const size = this.#file.size();
    await this.#footers.moveTo(this.#slots.footerAfter(end + this.#reserve));
    this.#dirtyEnd = Math.max(this.#dirtyEnd, size);
    this.#reserve = Math.min(this.#reserve * 2, MAX_RESERVE);
  }
}
