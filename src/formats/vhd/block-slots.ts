/**
 * Hands out places for the blocks of a new dynamic VHD, one after the other.
 *
 * Invariant: data begins at a multiple of 4 KiB and its bitmap stands in the sectors right before, as
 * Windows 8 and later lay disks out: extents can then be shared with other files, and disks with 4 KiB
 * sectors need no read-modify-write. Places that were given back are used again before the file grows.
 */
import { roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import { UNALLOCATED } from './bat.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import { FOOTER_BYTES } from './footer.js';

/** Alignment of payload and of the file's length. */
export const ALIGNMENT = 4096;

export class BlockSlots {
  readonly #path: string;
  readonly #blockSize: number;
  readonly #bitmapBytes: number;
  readonly #free: number[] = [];
  /** End of everything placed so far, a multiple of 4 KiB. */
  #end: number;
  /** First possible place of data. */
  readonly #start: number;

  /** @param metadataEnd where header and BAT end, in bytes */
  constructor(path: string, metadataEnd: number, blockSize: number, bitmapBytes: number) {
    this.#path = path;
    this.#blockSize = blockSize;
    this.#bitmapBytes = bitmapBytes;
    this.#end = roundUp(metadataEnd, ALIGNMENT);
    this.#start = this.#end + roundUp(bitmapBytes, ALIGNMENT);
  }

  /**
   * Where the footer belongs: the file's length becomes a multiple of 4 KiB, and in an empty disk the
   * footer stands where the first bitmap will be. Measured on images of Windows 8 and 10.
   */
  get footerOffset(): number {
    return this.footerAfter(this.#end);
  }

  /** The same behind another end. */
  footerAfter(end: number): number {
    return roundUp(end, ALIGNMENT) + ALIGNMENT - FOOTER_BYTES;
  }

  /** End of everything placed so far. */
  get end(): number {
    return this.#end;
  }

  /**
   * Takes note of a block placed by an earlier run. Answers false when no such run can have put it there.
   * @param fileSize bytes; the block's data begins inside
   */
  occupy(entry: number, fileSize: number): boolean {
    const dataOffset = this.dataOffsetOf(entry);
    if (dataOffset % ALIGNMENT !== 0 || dataOffset < this.#start || dataOffset >= fileSize) return false;
    this.#end = Math.max(this.#end, dataOffset + this.#blockSize);
    return true;
  }

  /**
   * The byte offset of a new block's data.
   * @throws TARGET_TOO_SMALL when the block can't be addressed with 32-bit sector numbers
   */
  take(): number {
    const again = this.#free.pop();
    if (again !== undefined) return again;
    const dataOffset = this.#end + roundUp(this.#bitmapBytes, ALIGNMENT);
    if (this.entryOf(dataOffset) >= UNALLOCATED) {
      throw new VhdkitError('TARGET_TOO_SMALL', `${this.#path}: the file of a VHD can't grow beyond 2 TiB`, {
        operation: 'allocate block',
        context: { path: this.#path, offset: dataOffset },
        hint: 'Use larger blocks (2M wastes least) or VHDX.',
      });
    }
    this.#end = dataOffset + this.#blockSize;
    return dataOffset;
  }

  /** Gives a place back that holds nothing any more. */
  giveBack(dataOffset: number): void {
    this.#free.push(dataOffset);
  }

  /** Takes back a `take` that made the end grow, the last one. */
  undo(dataOffset: number): void {
    this.#end = dataOffset - roundUp(this.#bitmapBytes, ALIGNMENT);
  }

  /** True when the last place before the end is free. */
  get endIsFree(): boolean {
    return this.#free.some((dataOffset) => dataOffset + this.#blockSize === this.#end);
  }

  /** Forgets free places from `end` on: everything placed ends there now. */
  endAt(end: number): void {
    this.#end = roundUp(end, ALIGNMENT);
    this.withhold(this.#end, Number.MAX_SAFE_INTEGER);
  }

  /** Something lies in the range from now on that was not handed out here. */
  occupyAt(start: number, end: number): void {
    this.withhold(start, end);
    this.#end = Math.max(this.#end, roundUp(end, ALIGNMENT));
  }

  /** Free places that touch a range are not handed out any more. */
  withhold(start: number, end: number): void {
    const kept = this.#free.filter(
      (dataOffset) => dataOffset + this.#blockSize <= start || dataOffset - this.#bitmapBytes >= end,
    );
    this.#free.length = 0;
    this.#free.push(...kept);
  }

  /** The BAT entry of a block: the sector number of its bitmap. */
  entryOf(dataOffset: number): number {
    return (dataOffset - this.#bitmapBytes) / SECTOR_BYTES;
  }

  /** The inverse of `entryOf`. */
  dataOffsetOf(entry: number): number {
    return entry * SECTOR_BYTES + this.#bitmapBytes;
  }
}
