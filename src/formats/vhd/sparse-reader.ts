/**
 * From blocks to extents: how dynamic and differencing VHDs are read, be they open for reading or being
 * changed.
 *
 * Invariants: memory stays flat (tables and sector bitmaps come from small caches); a BAT entry is judged
 * at every use; a sector whose bit is clear, and a block without an entry, is zero in a dynamic disk and
 * absent (the parent answers) in a differencing one.
 *
 * Bitmaps are honoured in dynamic disks too: on storage that is not zeroed (XenServer's volumes) clear
 * bits hide bytes of somebody else.
 */
import { MiB, roundUp } from '../../base/bytes.js';
import { type Extent, pushExtent } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ImageLayout } from '../disk-image.js';
import { assertInsideDisk } from '../image-reader.js';
import { UNALLOCATED } from './bat.js';
import { type BlockPlace, type BlockRules, judgeEntry, placeOf } from './block-place.js';
import { vhdError } from './defects.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import { bitmapRuns, type SectorBitmap } from './sector-bitmap.js';

/** Bitmaps being read at a time. */
const BITMAPS_IN_FLIGHT = 16;
/** Blocks whose data starts at most this much after its predecessor's bitmap-aligned end are neighbours. */
const ALIGNMENT_GAP = 64 * 1024;

/** Where tables and bitmaps come from: the file, or the file with what is not written yet. */
export interface BlockSource {
  readonly file: RandomAccessFile;
  /** As they are now. */
  readonly rules: BlockRules;
  entries(first: number, count: number): Promise<Uint32Array>;
  pages(): AsyncIterable<{ first: number; entries: Uint32Array }>;
  /** Byte offset of a block's table entry, for messages. */
  entryOffset(block: number): number;
  bitmap(block: number, offset: number): Promise<SectorBitmap>;
}

/** What "not stored here" means. */
export type Missing = 'zero' | 'absent';

interface LocatedBlock {
  block: number;
  place: BlockPlace;
  bitmap: SectorBitmap;
}

export class SparseReader {
  readonly #source: BlockSource;
  readonly #missing: Missing;

  constructor(source: BlockSource, missing: Missing) {
    this.#source = source;
    this.#missing = missing;
  }

  /** @throws OUT_OF_RANGE, IMAGE_CORRUPT (a BAT entry in the range is wrong), IO_FAILED */
  async locate(offset: number, length: number): Promise<Extent[]> {
    const { file, rules } = this.#source;
    const { blockSize } = rules.table;
    assertInsideDisk(rules.virtualSize, offset, length, file.path);
    const extents: Extent[] = [];
    const first = Math.floor(offset / blockSize);
    const last = Math.ceil((offset + length) / blockSize);
    for (let block = first; block < last; block += BITMAPS_IN_FLIGHT) {
      const count = Math.min(BITMAPS_IN_FLIGHT, last - block);
      for (const located of await this.#locateBlocks(block, count)) {
        this.#pushBlock(extents, located, offset, offset + length);
      }
    }
    return extents;
  }

  /**
   * Neighbours on the disk count as one run when the next block's data follows with nothing but its bitmap
   * (and the padding in front of that) between: a VHD can't be less fragmented than that.
   */
  async layout(): Promise<ImageLayout> {
    const { rules } = this.#source;
    const { table } = rules;
    const stored = table.bitmapBytes + table.blockSize;
    // Padding is no gap, but only where no other block would fit.
    const stride = Math.min(roundUp(table.bitmapBytes, ALIGNMENT_GAP) + table.blockSize, 2 * stored - 1);
    const layout: ImageLayout = {
      allocatedBlocks: 0,
      totalBlocks: table.blocks,
      payloadAlignment: undefined,
      extents: 0,
    };
    let previous: BlockPlace | undefined;
    for await (const { entries } of this.#source.pages()) {
      for (const entry of entries) {
        if (entry === UNALLOCATED) continue;
        const place = placeOf(entry, rules);
        const step = previous ? place.dataOffset - previous.dataOffset : 0;
        if (step < stored || step > stride) layout.extents += 1;
        layout.allocatedBlocks += 1;
        layout.payloadAlignment = commonAlignment(layout.payloadAlignment, place.dataOffset);
        previous = place;
      }
    }
    return layout;
  }

  /** The place that an entry names. @throws IMAGE_CORRUPT when the block can't be there */
  judgedPlace(block: number, entry: number): BlockPlace {
    const { rules, file } = this.#source;
    const problem = judgeEntry(block, entry, rules);
    if (problem) {
      throw vhdError('IMAGE_CORRUPT', problem.defect, `${problem.message} (block table entry)`, {
        path: file.path,
        offset: this.#source.entryOffset(block),
      });
    }
    return placeOf(entry, rules);
  }

  /** Blocks of a range in order; the number alone where nothing is stored. */
  async #locateBlocks(first: number, count: number): Promise<(LocatedBlock | number)[]> {
    const entries = await this.#source.entries(first, count);
    return Promise.all(
      Array.from(entries, async (entry, index) => {
        const block = first + index;
        if (entry === UNALLOCATED) return block;
        const place = this.judgedPlace(block, entry);
        return { block, place, bitmap: await this.#source.bitmap(block, place.bitmapOffset) };
      }),
    );
  }

  /** Adds the part of a block that lies in `[from, to)` of the disk. */
  #pushBlock(extents: Extent[], located: LocatedBlock | number, from: number, to: number): void {
    const { blockSize } = this.#source.rules.table;
    const block = typeof located === 'number' ? located : located.block;
    const base = block * blockSize;
    const start = Math.max(from, base);
    const end = Math.min(to, base + blockSize);
    if (typeof located === 'number') {
      pushExtent(extents, { state: this.#missing, offset: start, length: end - start });
      return;
    }
    const firstSector = Math.floor((start - base) / SECTOR_BYTES);
    const endSector = Math.ceil((end - base) / SECTOR_BYTES);
    for (const run of bitmapRuns(located.bitmap, firstSector, endSector)) {
      const at = Math.max(start, base + run.start * SECTOR_BYTES);
      const length = Math.min(end, base + run.end * SECTOR_BYTES) - at;
      if (run.present) this.#pushStored(extents, located.place, base, at, length);
      else pushExtent(extents, { state: this.#missing, offset: at, length });
    }
  }

  /** A stored range; what the end of the file cuts off reads as zeros (see block-place.ts). */
  #pushStored(extents: Extent[], place: BlockPlace, base: number, offset: number, length: number): void {
    const fileOffset = place.dataOffset + (offset - base);
    const stored = Math.max(0, Math.min(length, place.dataEnd - fileOffset));
    pushExtent(extents, { state: 'data', offset, length: stored, file: this.#source.file, fileOffset });
    pushExtent(extents, { state: 'zero', offset: offset + stored, length: length - stored });
  }
}

/** The largest power of two up to 1 MiB that divides the offset and `known`. */
export function commonAlignment(known: number | undefined, offset: number): number {
  let alignment = known ?? MiB;
  while (offset % alignment !== 0) alignment /= 2;
  return alignment;
}
