/**
 * From disk ranges to places: walks the BAT for `locate` and `layout`.
 *
 * Invariant: an entry is checked each time it is used, so that opening never has to read the whole table,
 * and a place handed out is always inside the file and outside log and regions. Entries are scanned in
 * page buffers as pairs of u32: no object, promise or BigInt per entry.
 */
import { MiB } from '../../base/bytes.js';
import { type Extent, pushExtent } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ImageLayout } from '../disk-image.js';
import {
  BAT_ENTRY_LENGTH,
  type BatGeometry,
  BITMAP_STATE,
  BLOCK_STATE,
  bitmapIndex,
  entryOffsetMiB,
  entryState,
  payloadIndex,
  SECTOR_BITMAP_MIB,
  sectorsPerBlock,
} from './bat.js';
import { vhdxCorrupt } from './defects.js';
import { HEADER_SECTION_END } from './layout.js';
import type { LogOverlayFile } from './log-overlay.js';
import { PAGE_LENGTH, PageCache, type TablePages } from './page-cache.js';
import type { OwnedRange, OwnedRanges } from './region-table.js';
import { bitAt, endOfRun } from './sector-bitmap.js';

const BITS_PER_PAGE = PAGE_LENGTH * 8;

export interface BlockMapParts {
  /** The image's file. */
  file: RandomAccessFile;
  /** The file as it is after log replay, when there was something to replay. */
  overlay: LogOverlayFile | undefined;
  geometry: BatGeometry;
  differencing: boolean;
  bat: OwnedRange;
  /** Log and regions: no block may lie there. */
  occupied: OwnedRanges;
  batPages: TablePages;
  /** Default: pages of its own. */
  bitmapPages?: TablePages;
}

/** A run of entries in one page and one chunk. */
interface EntryRun {
  view: DataView;
  /** Byte position of the first entry in the page. */
  at: number;
  /** Payload entries from there. */
  count: number;
  /** File offset of the first entry. */
  fileOffset: number;
}

/** One `locate` call: what it found so far, and the sizes that its answers are checked against. */
interface Walk {
  extents: Extent[];
  fileSize: number;
  /** After log replay. */
  viewSize: number;
}

export class BlockMap {
  readonly #parts: BlockMapParts;
  readonly #bitmapPages: TablePages;

  constructor(parts: BlockMapParts) {
    this.#parts = parts;
    this.#bitmapPages = parts.bitmapPages ?? new PageCache(parts.overlay ?? parts.file, 'a sector bitmap');
  }

  /**
   * Extents of a range inside the disk.
   * @throws IMAGE_CORRUPT with the offset of the entry that is wrong, IO_FAILED
   */
  async locate(offset: number, length: number): Promise<Extent[]> {
    const { file, overlay, geometry } = this.#parts;
    const { blockSize } = geometry;
    const fileSize = file.size();
    const walk: Walk = { extents: [], fileSize, viewSize: overlay?.size() ?? fileSize };
    const end = offset + length;
    const endBlock = Math.ceil(end / blockSize);
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / blockSize);
      const run = this.#entryRun(block, endBlock) ?? (await this.#loadRun(block, endBlock));
      for (let index = 0; index < run.count && at < end; index += 1) {
        const blockStart = (block + index) * blockSize;
        const stop = Math.min(blockStart + blockSize, end);
        const partial = this.#placeBlock(walk, run, index, at, stop, blockStart);
        if (partial !== undefined) await this.#placePartial(walk, block + index, partial, at, stop);
        at = stop;
      }
    }
    return walk.extents;
  }

  /** Facts for `info`; entries that are wrong are left to `check`. */
  async layout(): Promise<ImageLayout> {
    const { geometry } = this.#parts;
    let allocatedBlocks = 0;
    let extents = 0;
    let expected = -1;
    for (let block = 0; block < geometry.blocks; ) {
      const run = this.#entryRun(block, geometry.blocks) ?? (await this.#loadRun(block, geometry.blocks));
      for (let index = 0; index < run.count; index += 1) {
        const at = run.at + index * BAT_ENTRY_LENGTH;
        const low = run.view.getUint32(at, true);
        const state = entryState(low);
        if (state !== BLOCK_STATE.fullyPresent && state !== BLOCK_STATE.partiallyPresent) continue;
        const place = entryOffsetMiB(low, run.view.getUint32(at + 4, true));
        allocatedBlocks += 1;
        if (place !== expected) extents += 1;
        expected = place + geometry.blockSize / MiB;
      }
      block += run.count;
    }
    const payloadAlignment = allocatedBlocks > 0 ? MiB : undefined;
    return { allocatedBlocks, totalBlocks: geometry.blocks, payloadAlignment, extents };
  }

  /** Entries from a block on, as far as they share a page and a chunk; undefined: page not in memory. */
  #entryRun(block: number, endBlock: number): EntryRun | undefined {
    const { geometry, bat, batPages } = this.#parts;
    const fileOffset = bat.offset + payloadIndex(geometry, block) * BAT_ENTRY_LENGTH;
    const at = fileOffset % PAGE_LENGTH;
    const view = batPages.cached(fileOffset - at);
    return view && { view, at, count: this.#runLength(block, endBlock, at), fileOffset };
  }

  async #loadRun(block: number, endBlock: number): Promise<EntryRun> {
    const { geometry, bat, batPages } = this.#parts;
    const fileOffset = bat.offset + payloadIndex(geometry, block) * BAT_ENTRY_LENGTH;
    const at = fileOffset % PAGE_LENGTH;
    const view = await batPages.load(fileOffset - at);
    return { view, at, count: this.#runLength(block, endBlock, at), fileOffset };
  }

  #runLength(block: number, endBlock: number, at: number): number {
    const { chunkRatio } = this.#parts.geometry;
    const inChunk = chunkRatio - (block % chunkRatio);
    return Math.min(inChunk, (PAGE_LENGTH - at) / BAT_ENTRY_LENGTH, endBlock - block);
  }

  /**
   * Appends what `[at, stop)`, a part of one block, resolves to. Returns the block's file offset when the
   * sector bitmap has to be asked.
   */
  #placeBlock(
    walk: Walk,
    run: EntryRun,
    index: number,
    at: number,
    stop: number,
    blockStart: number,
  ): number | undefined {
    const entryAt = run.at + index * BAT_ENTRY_LENGTH;
    const low = run.view.getUint32(entryAt, true);
    switch (entryState(low)) {
      case BLOCK_STATE.fullyPresent:
      case BLOCK_STATE.partiallyPresent: {
        const fileOffset = run.fileOffset + index * BAT_ENTRY_LENGTH;
        const offsetMiB = entryOffsetMiB(low, run.view.getUint32(entryAt + 4, true));
        const place = this.#payloadPlace(walk, offsetMiB, fileOffset);
        if (entryState(low) === BLOCK_STATE.fullyPresent) {
          this.#pushData(walk, at, stop - at, place + (at - blockStart));
          return undefined;
        }
        if (this.#parts.differencing) return place;
        throw this.#stateError('partially present in an image without a parent', fileOffset);
      }
      case BLOCK_STATE.notPresent:
        pushExtent(walk.extents, {
          state: this.#parts.differencing ? 'absent' : 'zero',
          offset: at,
          length: stop - at,
        });
        return undefined;
      case BLOCK_STATE.undefined:
      case BLOCK_STATE.zero:
      case BLOCK_STATE.unmapped:
      case BLOCK_STATE.legacyUnmapped:
        pushExtent(walk.extents, { state: 'zero', offset: at, length: stop - at });
        return undefined;
      default:
        throw this.#stateError('in a state that does not exist', run.fileOffset + index * BAT_ENTRY_LENGTH);
    }
  }

  #stateError(what: string, entryOffset: number): Error {
    return vhdxCorrupt('VHDX_BAT_STATE_INVALID', `a block is ${what}`, this.#parts.file.path, entryOffset);
  }

  /** Checked byte offset of a payload block; its end may be missing from the file. */
  #payloadPlace(walk: Walk, offsetMiB: number, entryOffset: number): number {
    return this.#checkedPlace(walk, offsetMiB, this.#parts.geometry.blockSize, 1, 'a block', entryOffset);
  }

  /** @param mustExist bytes of it that must be inside the file */
  #checkedPlace(
    walk: Walk,
    offsetMiB: number,
    length: number,
    mustExist: number,
    what: string,
    entryOffset: number,
  ): number {
    const { file } = this.#parts;
    const offset = offsetMiB * MiB;
    if (offset < HEADER_SECTION_END || offset + mustExist > walk.viewSize) {
      const message = `${what} is said to be at ${offset}, outside the file of ${walk.fileSize} bytes; its table entry is`;
      throw vhdxCorrupt('VHDX_BAT_ENTRY_OUTSIDE_FILE', message, file.path, entryOffset);
    }
    const owner = this.#parts.occupied.find(offset, offset + length);
    if (owner) {
      const message = `${what} is said to be at ${offset}, inside ${owner.name}; its table entry is`;
      throw vhdxCorrupt('VHDX_BAT_ENTRY_IN_METADATA', message, file.path, entryOffset);
    }
    return offset;
  }

  /** Payload: from the overlay where replay changes it, zeros where the file ends before the block does. */
  #pushData(walk: Walk, offset: number, length: number, fileOffset: number): void {
    const { file, overlay } = this.#parts;
    const replayed = overlay?.changes(fileOffset, length) ? overlay : undefined;
    const size = replayed ? walk.viewSize : walk.fileSize;
    const present = Math.max(0, Math.min(length, size - fileOffset));
    const source = replayed ?? file;
    pushExtent(walk.extents, { state: 'data', offset, length: present, file: source, fileOffset });
    pushExtent(walk.extents, { state: 'zero', offset: offset + present, length: length - present });
  }

  /** A partially present block: runs of sectors that are here, and of sectors that are the parent's. */
  async #placePartial(walk: Walk, block: number, place: number, at: number, stop: number): Promise<void> {
    const { geometry } = this.#parts;
    const { chunkRatio, logicalSectorSize } = geometry;
    const bitmap = await this.#bitmapPlace(walk, Math.floor(block / chunkRatio));
    const blockStart = block * geometry.blockSize;
    const firstBit = (block % chunkRatio) * sectorsPerBlock(geometry);
    let bit = firstBit + Math.floor((at - blockStart) / logicalSectorSize);
    const lastBit = firstBit + Math.ceil((stop - blockStart) / logicalSectorSize);
    for (let from = at; bit < lastBit; ) {
      const inPage = bit % BITS_PER_PAGE;
      const pageOffset = bitmap + (bit - inPage) / 8;
      const page = this.#bitmapPages.cached(pageOffset) ?? (await this.#bitmapPages.load(pageOffset));
      const end = endOfRun(page, inPage, Math.min(BITS_PER_PAGE, inPage + lastBit - bit));
      const present = bitAt(page, inPage);
      bit += end - inPage;
      const to = Math.min(stop, blockStart + (bit - firstBit) * logicalSectorSize);
      if (present) this.#pushData(walk, from, to - from, place + (from - blockStart));
      else pushExtent(walk.extents, { state: 'absent', offset: from, length: to - from });
      from = to;
    }
  }

  /** Checked byte offset of a chunk's sector bitmap block. */
  async #bitmapPlace(walk: Walk, chunk: number): Promise<number> {
    const { geometry, bat, batPages, file } = this.#parts;
    const entryOffset = bat.offset + bitmapIndex(geometry, chunk) * BAT_ENTRY_LENGTH;
    if (entryOffset >= bat.offset + bat.length) {
      const message = 'a partially present block has no sector bitmap: the table ends before its entry';
      throw vhdxCorrupt('VHDX_BITMAP_MISSING', message, file.path, entryOffset);
    }
    const at = entryOffset % PAGE_LENGTH;
    const pageOffset = entryOffset - at;
    const view = batPages.cached(pageOffset) ?? (await batPages.load(pageOffset));
    const low = view.getUint32(at, true);
    if (entryState(low) !== BITMAP_STATE.present) {
      const message = `a partially present block has no sector bitmap (state ${entryState(low)})`;
      throw vhdxCorrupt('VHDX_BITMAP_MISSING', message, file.path, entryOffset);
    }
    const length = SECTOR_BITMAP_MIB * MiB;
    const offsetMiB = entryOffsetMiB(low, view.getUint32(at + 4, true));
    return this.#checkedPlace(walk, offsetMiB, length, length, 'a sector bitmap', entryOffset);
  }
}
