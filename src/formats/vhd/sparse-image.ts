/**
 * A dynamic or differencing VHD, open for reading.
 *
 * Invariants: memory stays flat (BAT pages and sector bitmaps come from small caches); a BAT entry is
 * judged at every use; a sector whose bit is clear, and a block without an entry, is zero in a dynamic
 * disk and absent (the parent answers) in a differencing one.
 *
 * Bitmaps are honoured in dynamic disks too: on storage that is not zeroed (XenServer's volumes) clear
 * bits hide bytes of somebody else.
 */
import { MiB, roundUp } from '../../base/bytes.js';
import { type Extent, pushExtent } from '../../block/extent.js';
import type { ImageLayout, ParentLink } from '../disk-image.js';
import type { Finding } from '../finding.js';
import { assertInsideDisk } from '../image-reader.js';
import { BlockAllocationTable, UNALLOCATED } from './bat.js';
import { type BlockPlace, judgeEntry, placeOf } from './block-place.js';
import { checkSparse } from './check.js';
import { vhdError } from './defects.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import { AsyncLru } from './lru.js';
import { bitmapRuns, parseBitmap, type SectorBitmap, sectorsOf } from './sector-bitmap.js';
import type { SparseStructures } from './structures.js';
import { OpenVhd } from './vhd-image.js';

/** Sector bitmaps kept: at most 4 MiB with the largest blocks, 32 KiB with usual ones. */
const BITMAP_CACHE = 64;
/** Bitmaps being read at a time. */
const BITMAPS_IN_FLIGHT = 16;
/** Blocks whose data starts at most this much after its predecessor's bitmap-aligned end are neighbours. */
const ALIGNMENT_GAP = 4096;

interface LocatedBlock {
  block: number;
  place: BlockPlace;
  bitmap: SectorBitmap;
}

export class SparseVhd extends OpenVhd {
  readonly blockSize: number;
  readonly parentLink: ParentLink | undefined;
  readonly #structures: SparseStructures;
  readonly #bat: BlockAllocationTable;
  /** By byte offset of the bitmap. */
  readonly #bitmaps: AsyncLru<SectorBitmap>;
  /** What "not stored here" means. */
  readonly #missing: 'zero' | 'absent';

  constructor(structures: SparseStructures) {
    super(structures);
    this.#structures = structures;
    this.blockSize = structures.table.blockSize;
    this.parentLink = structures.parentLink;
    this.#missing = structures.type === 'differencing' ? 'absent' : 'zero';
    this.#bat = new BlockAllocationTable(structures.file, structures.table);
    this.#bitmaps = new AsyncLru(BITMAP_CACHE, (offset) => this.#readBitmap(offset));
  }

  /** @throws OUT_OF_RANGE, IMAGE_CORRUPT (a BAT entry in the range is wrong), IO_FAILED */
  async locate(offset: number, length: number): Promise<Extent[]> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    const extents: Extent[] = [];
    const first = Math.floor(offset / this.blockSize);
    const last = Math.ceil((offset + length) / this.blockSize);
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
    const { rules, table } = this.#structures;
    const stride = roundUp(table.bitmapBytes, ALIGNMENT_GAP) + table.blockSize;
    const layout: ImageLayout = {
      allocatedBlocks: 0,
      totalBlocks: table.blocks,
      payloadAlignment: undefined,
      extents: 0,
    };
    let previous: BlockPlace | undefined;
    for await (const { entries } of this.#bat.pages()) {
      for (const entry of entries) {
        if (entry === UNALLOCATED) {
          previous = undefined;
          continue;
        }
        const place = placeOf(entry, rules);
        const step = previous ? place.dataOffset - previous.dataOffset : 0;
        if (step < table.blockSize + table.bitmapBytes || step > stride) layout.extents += 1;
        layout.allocatedBlocks += 1;
        layout.payloadAlignment = commonAlignment(layout.payloadAlignment, place.dataOffset);
        previous = place;
      }
    }
    return layout;
  }

  async check(): Promise<Finding[]> {
    return [...this.warnings, ...(await checkSparse(this.#structures, this.#bat))];
  }

  /** Blocks of a range in order; undefined where nothing is stored. */
  async #locateBlocks(first: number, count: number): Promise<(LocatedBlock | number)[]> {
    const entries = await this.#bat.entries(first, count);
    return Promise.all(
      Array.from(entries, async (entry, index) => {
        const block = first + index;
        if (entry === UNALLOCATED) return block;
        const place = this.#judgedPlace(block, entry);
        return { block, place, bitmap: await this.#bitmaps.get(place.bitmapOffset) };
      }),
    );
  }

  #judgedPlace(block: number, entry: number): BlockPlace {
    const { rules } = this.#structures;
    const problem = judgeEntry(block, entry, rules);
    if (problem) {
      throw vhdError('IMAGE_CORRUPT', problem.defect, `${problem.message} (block table entry)`, {
        path: this.file.path,
        offset: this.#bat.entryOffset(block),
      });
    }
    return placeOf(entry, rules);
  }

  /** Adds the part of a block that lies in `[from, to)` of the disk. */
  #pushBlock(extents: Extent[], located: LocatedBlock | number, from: number, to: number): void {
    const block = typeof located === 'number' ? located : located.block;
    const base = block * this.blockSize;
    const start = Math.max(from, base);
    const end = Math.min(to, base + this.blockSize);
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
    pushExtent(extents, { state: 'data', offset, length: stored, file: this.file, fileOffset });
    pushExtent(extents, { state: 'zero', offset: offset + stored, length: length - stored });
  }

  async #readBitmap(offset: number): Promise<SectorBitmap> {
    const bytes = new Uint8Array(this.#structures.table.bitmapBytes);
    const count = await this.file.read(bytes, offset);
    if (count < bytes.length) {
      throw vhdError('IMAGE_CORRUPT', 'VHD_BAT_ENTRY_OUTSIDE_FILE', 'the file ends within a sector bitmap', {
        path: this.file.path,
        offset,
      });
    }
    return parseBitmap(bytes, sectorsOf(this.blockSize));
  }
}

/** The largest power of two up to 1 MiB that divides the offset and `known`. */
export function commonAlignment(known: number | undefined, offset: number): number {
  let alignment = known ?? MiB;
  while (offset % alignment !== 0) alignment /= 2;
  return alignment;
}
