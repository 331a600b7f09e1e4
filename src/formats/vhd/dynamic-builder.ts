/**
 * A new dynamic VHD: blocks are placed when they are first written to.
 *
 * Invariants: the BAT names a block only after `flush` made its data and bitmap durable. Every bit of an
 * allocated block's bitmap is set and what was not written is zero, so that readers that honour bitmaps
 * and readers that ignore them see the same disk. Memory: four bytes for each block of the disk.
 *
 * A write into a block that is already committed goes to its place; only new blocks can be taken back.
 */
import { assert } from '../../base/assert.js';
import { formatSize, MiB, roundUp } from '../../base/bytes.js';
import { type Extent, type Place, type PreparedWrite, pushExtent, pushPlace } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ImageLayout } from '../disk-image.js';
import type { Finding } from '../finding.js';
import { assertInsideDisk } from '../image-reader.js';
import { BlockAllocationTable, UNALLOCATED } from './bat.js';
import { ALIGNMENT, BlockSlots } from './block-slots.js';
import { vhdError } from './defects.js';
import { bitmapBytes, encodeDynamicHeader, HEADER_BYTES, SECTOR_BYTES } from './dynamic-header.js';
import { encodeFooter, HEADER_AFTER_FOOTER, type VhdFooter } from './footer.js';
import { fullBitmap } from './sector-bitmap.js';
import { commonAlignment } from './sparse-reader.js';
import { VhdBuilder } from './vhd-builder.js';

const TABLE_OFFSET = HEADER_AFTER_FOOTER + HEADER_BYTES;
/** The BAT is written in pieces of this size. */
const PAGE_BYTES = 64 * 1024;
const PAGE_ENTRIES = PAGE_BYTES / 4;
/** Bitmaps being written at a time. */
const BITMAPS_IN_FLIGHT = 16;
/** What Windows, XenServer and most tools make. */
const USUAL_BLOCK_SIZE = 2 * MiB;

/** A block that a prepared write has a place for but has not committed. */
interface NewBlock {
  block: number;
  dataOffset: number;
}

/**
 * What to say about a block size that is legal but rare. qemu-img and vhd-lib read the content of
 * all sizes from 4 KiB to 256 MiB; libvhd (XenServer) refuses more than 2 MiB and Azure's tools count on it.
 */
function blockSizeWarnings(blockSize: number): Finding[] {
  if (blockSize === USUAL_BLOCK_SIZE) return [];
  const refusal = blockSize > USUAL_BLOCK_SIZE ? '; XenServer refuses larger ones' : '';
  return [
    {
      code: 'VHD_BLOCK_SIZE_UNUSUAL',
      severity: 'warning',
      message: `The blocks have ${formatSize(blockSize)}; many tools take for granted that a VHD has blocks of 2 MiB${refusal}`,
      repairable: false,
    },
  ];
}

export class DynamicVhdBuilder extends VhdBuilder {
  readonly type = 'dynamic';
  readonly blockSize: number;
  readonly #blocks: number;
  readonly #footer: Uint8Array;
  readonly #header: Uint8Array;
  /** Bitmap with the padding in front of it: one aligned write. */
  readonly #bitmap: Uint8Array;
  readonly #slots: BlockSlots;
  /** BAT entries; 0, which no block can have, stands for "not allocated" so that memory is used late. */
  readonly #entries: Uint32Array;
  readonly #dirtyPages = new Set<number>();
  #allocated = 0;
  /** Where the footer was last written; undefined before the first flush. */
  #footerAt: number | undefined;

  constructor(file: RandomAccessFile, footer: VhdFooter, blockSize: number) {
    super(file, footer, blockSizeWarnings(blockSize));
    this.blockSize = blockSize;
    this.#blocks = Math.ceil(this.virtualSize / blockSize);
    this.#footer = encodeFooter(footer);
    this.#header = encodeDynamicHeader({ offset: TABLE_OFFSET, entries: this.#blocks, blockSize });
    this.#entries = new Uint32Array(this.#blocks);
    const stored = bitmapBytes(blockSize);
    this.#bitmap = new Uint8Array(roundUp(stored, ALIGNMENT));
    this.#bitmap.set(fullBitmap(blockSize, stored), this.#bitmap.length - stored);
    this.#slots = new BlockSlots(file.path, TABLE_OFFSET + this.#tableBytes(), blockSize, stored);
    for (let page = 0; page * PAGE_ENTRIES < this.#blocks; page += 1) this.#dirtyPages.add(page);
  }

  /**
   * Goes on from the table that an interrupted run left in the file. What lies behind the last block is
   * cut off: places given out from now on must read as zeros.
   * @throws IMAGE_CORRUPT
   */
  async takeUp(): Promise<void> {
    const table = {
      offset: TABLE_OFFSET,
      entries: this.#blocks,
      blocks: this.#blocks,
      blockSize: this.blockSize,
    };
    const stored = new BlockAllocationTable(this.file, {
      ...table,
      bitmapBytes: bitmapBytes(this.blockSize),
    });
    const fileSize = this.file.size();
    for await (const { first, entries } of stored.pages()) {
      for (const [index, entry] of entries.entries()) {
        if (entry === UNALLOCATED) continue;
        if (!this.#slots.occupy(entry, fileSize)) {
          throw vhdError(
            'IMAGE_CORRUPT',
            'VHD_BAT_ENTRY_OUTSIDE_FILE',
            'a block of the unfinished image is out of place',
            {
              path: this.file.path,
              offset: stored.entryOffset(first + index),
            },
          );
        }
        this.#entries[first + index] = entry;
        this.#allocated += 1;
      }
    }
    await this.file.truncate(this.#slots.end);
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    const extents: Extent[] = [];
    this.#eachPart(offset, length, (block, at, partLength) => {
      const entry = this.#entries[block] ?? 0;
      if (entry === 0) {
        pushExtent(extents, { state: 'zero', offset: at, length: partLength });
      } else {
        const place = this.#placeIn(block, this.#slots.dataOffsetOf(entry), at, partLength);
        pushExtent(extents, { state: 'data', ...place });
      }
    });
    return extents;
  }

  /** @throws OUT_OF_RANGE, TARGET_TOO_SMALL */
  async prepareWrite(offset: number, length: number): Promise<PreparedWrite> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    const places: Place[] = [];
    const fresh: NewBlock[] = [];
    try {
      this.#eachPart(offset, length, (block, at, partLength) => {
        const entry = this.#entries[block] ?? 0;
        const dataOffset = entry === 0 ? this.#slots.take() : this.#slots.dataOffsetOf(entry);
        if (entry === 0) fresh.push({ block, dataOffset });
        pushPlace(places, this.#placeIn(block, dataOffset, at, partLength));
      });
    } catch (error) {
      for (const { dataOffset } of fresh) this.#slots.giveBack(dataOffset);
      throw error;
    }
    return this.#pendingWrite(places, fresh);
  }

  async flush(): Promise<void> {
    // Data and bitmaps must be durable before anything names them.
    await this.file.flush();
    const footerOffset = this.#slots.footerOffset;
    if (this.#footerAt === footerOffset && this.#dirtyPages.size === 0) return;
    await this.file.write(this.#footer, footerOffset);
    if (this.#footerAt === undefined) {
      await this.file.write(this.#footer, 0);
      await this.file.write(this.#header, HEADER_AFTER_FOOTER);
    }
    for (const page of this.#dirtyPages) {
      await this.file.write(this.#encodePage(page), TABLE_OFFSET + page * PAGE_BYTES);
    }
    await this.file.flush();
    this.#dirtyPages.clear();
    this.#footerAt = footerOffset;
  }

  /** Blocks are placed in the order of writing; runs are counted as for images that are read. */
  async layout(): Promise<ImageLayout> {
    const stride = this.#bitmap.length + this.blockSize;
    let extents = 0;
    let previous = 0;
    let alignment: number | undefined;
    for (const entry of this.#entries) {
      if (entry !== 0) {
        if (previous === 0 || (entry - previous) * SECTOR_BYTES !== stride) extents += 1;
        alignment = commonAlignment(alignment, this.#slots.dataOffsetOf(entry));
      }
      previous = entry;
    }
    return {
      allocatedBlocks: this.#allocated,
      totalBlocks: this.#blocks,
      payloadAlignment: alignment,
      extents,
    };
  }

  #tableBytes(): number {
    return roundUp(this.#blocks * 4, SECTOR_BYTES);
  }

  /** Calls `visit` for the part of the range in each block, in order. */
  #eachPart(
    offset: number,
    length: number,
    visit: (block: number, at: number, length: number) => void,
  ): void {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / this.blockSize);
      const next = Math.min(end, (block + 1) * this.blockSize);
      visit(block, at, next - at);
      at = next;
    }
  }

  #placeIn(block: number, dataOffset: number, offset: number, length: number): Place {
    const fileOffset = dataOffset + (offset - block * this.blockSize);
    return { offset, length, file: this.file, fileOffset };
  }

  #pendingWrite(places: Place[], fresh: readonly NewBlock[]): PreparedWrite {
    let open = true;
    return {
      places,
      commit: async () => {
        assert(open, 'a prepared write is committed or aborted once');
        open = false;
        await this.#commit(fresh);
      },
      abort: async () => {
        assert(open, 'a prepared write is committed or aborted once');
        open = false;
        for (const { dataOffset } of fresh) {
          // The next owner of the place relies on zeros where it does not write.
          await this.file.zero(dataOffset, this.blockSize);
          this.#slots.giveBack(dataOffset);
        }
      },
    };
  }

  async #commit(fresh: readonly NewBlock[]): Promise<void> {
    for (let at = 0; at < fresh.length; at += BITMAPS_IN_FLIGHT) {
      const batch = fresh.slice(at, at + BITMAPS_IN_FLIGHT);
      await Promise.all(
        batch.map(({ dataOffset }) => this.file.write(this.#bitmap, dataOffset - this.#bitmap.length)),
      );
    }
    for (const { block, dataOffset } of fresh) {
      assert(this.#entries[block] === 0, 'only one uncommitted write at a time may be in a block');
      this.#entries[block] = this.#slots.entryOf(dataOffset);
      this.#dirtyPages.add(Math.floor(block / PAGE_ENTRIES));
      this.#allocated += 1;
    }
  }

  /** A page of the BAT as stored, padded with ones at the table's end as Windows does. */
  #encodePage(page: number): Uint8Array {
    const first = page * PAGE_ENTRIES;
    const bytes = new Uint8Array(Math.min(PAGE_BYTES, this.#tableBytes() - page * PAGE_BYTES)).fill(0xff);
    const view = new DataView(bytes.buffer);
    for (const [index, entry] of this.#entries.subarray(first, first + PAGE_ENTRIES).entries()) {
      view.setUint32(index * 4, entry === 0 ? UNALLOCATED : entry);
    }
    return bytes;
  }
}
