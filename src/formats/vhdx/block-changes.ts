/**
 * What a change does to one block: the states of MS-VHDX 2.5.1.1, and how a block goes from one to another.
 *
 * Invariant: the old content stays readable until the change is made in the table, which is the last step of
 * each method; a block's entry, its bits and its chunk's bitmap entry change together (room is reserved for
 * all of them before the first).
 *
 * | state before            | a write makes it                                                         |
 * | 0, no parent            | 6: the rest of the new place is zero                                     |
 * | 0, differencing         | 7 with bits for what was written; 6 when all of it was                   |
 * | 1, 2, 3 (and 5)         | 6: the rest is zero, as it read before; never the parent's               |
 * | 6                       | 6, in place                                                              |
 * | 7                       | 7 with more bits, in place; 6 with the last of them                      |
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ImageType } from '../disk-image.js';
import type { SpaceAllocator } from './allocator.js';
import { type BatGeometry, BLOCK_STATE, SECTOR_BITMAP_MIB } from './bat.js';
import type { BlockEntry, BlockTable } from './block-table.js';
import type { DirtyPages } from './dirty-pages.js';

const BITMAP_LENGTH = SECTOR_BITMAP_MIB * 2 ** 20;

/** The part of a range that lies in one block. Bytes. */
export interface BlockPiece {
  block: number;
  /** On the disk. */
  offset: number;
  /** In the block. */
  within: number;
  length: number;
  /** It is all of the block, or all of it that the disk has. */
  isWhole: boolean;
}

/** A prepared write into one block. */
export interface BlockChange {
  piece: BlockPiece;
  /** Where the block is or will be, bytes. */
  place: number;
  /** The place was claimed for this write. */
  isNew: boolean;
  needsCommit: boolean;
}

export interface BlockChangesParts {
  file: RandomAccessFile;
  geometry: BatGeometry;
  type: ImageType;
  table: BlockTable;
  pages: DirtyPages;
  space: SpaceAllocator;
}

export class BlockChanges {
  readonly #parts: BlockChangesParts;
  readonly #differencing: boolean;

  constructor(parts: BlockChangesParts) {
    this.#parts = parts;
    this.#differencing = parts.type === 'differencing';
  }

  /** The first block in `[block, end)` that has an entry; `end` when none has. */
  nextUsed(block: number, end: number): Promise<number> {
    return this.#parts.table.nextUsed(block, end);
  }

  /** Finds or claims the place for a write. */
  async prepare(piece: BlockPiece): Promise<BlockChange> {
    const { table, space, file, geometry } = this.#parts;
    const { state, place } = await table.entry(piece.block);
    switch (state) {
      case BLOCK_STATE.fullyPresent:
        return { piece, place, isNew: false, needsCommit: false };
      case BLOCK_STATE.partiallyPresent:
        return { piece, place, isNew: false, needsCommit: true };
      default:
        if (place > 0 && isAnchor(state)) {
          // The place that an unmapped block kept; it reads as zeros until the commit whatever is in it.
          await file.zero(place, geometry.blockSize);
          return { piece, place, isNew: false, needsCommit: true };
        }
        return {
          piece,
          place: await space.claim(geometry.blockSize, piece.length < geometry.blockSize),
          isNew: true,
          needsCommit: true,
        };
    }
  }

  abort(change: BlockChange): void {
    if (change.isNew) this.#parts.space.unclaim(change.place, this.#parts.geometry.blockSize);
  }

  /** Shows what was put into the place. */
  async commit(change: BlockChange): Promise<void> {
    const { table, pages } = this.#parts;
    const { piece, place } = change;
    await pages.reserve(table.sectorsPerChange);
    const { state } = await table.entry(piece.block);
    const isPartial = state === BLOCK_STATE.partiallyPresent;
    const hasParentParts = isPartial || (state === BLOCK_STATE.notPresent && this.#differencing);
    if (piece.isWhole || !hasParentParts) {
      await table.setEntry(piece.block, BLOCK_STATE.fullyPresent, place);
      return;
    }
    const bitmap = await this.#bitmapOf(piece.block);
    await table.mark(bitmap, piece.block, this.#sectorsOf(piece), true, !isPartial);
    const presence = await table.presence(bitmap, piece.block, this.#sectorsIn(piece.block));
    const full = presence === 'all';
    if (isPartial && !full) return;
    const next = full ? BLOCK_STATE.fullyPresent : BLOCK_STATE.partiallyPresent;
    await table.setEntry(piece.block, next, place);
  }

  /** Whether a block can read as anything but zeros. */
  async canZero(piece: BlockPiece): Promise<boolean> {
    const { state } = await this.#parts.table.entry(piece.block);
    return hasPayload(state) || (state === BLOCK_STATE.notPresent && this.#differencing);
  }

  /** Makes a part of such a block read as zeros, never as the parent's. */
  async zero(piece: BlockPiece): Promise<void> {
    const { table, file, type } = this.#parts;
    const { state, place } = await table.entry(piece.block);
    if (piece.isWhole && type !== 'fixed') {
      await this.#setEmpty(piece.block, BLOCK_STATE.zero, { state, place });
      return;
    }
    const change = await this.prepare(piece);
    try {
      if (!change.isNew) await file.zero(change.place + piece.within, piece.length);
      if (change.needsCommit) await this.commit(change);
    } catch (error) {
      this.abort(change);
      throw error;
    }
  }

  /** Zeroes what is stored of a block from `within` on, in its place: what lies behind the disk's end. */
  async zeroStored(block: number, within: number): Promise<void> {
    const { table, file, geometry } = this.#parts;
    const { state, place } = await table.entry(block);
    const end = Math.min(place + geometry.blockSize, file.size());
    if (hasPayload(state) && place + within < end) await file.zero(place + within, end - place - within);
  }

  /** Whether there is anything in this part of a block that the format can forget. */
  async canDiscard(piece: BlockPiece): Promise<boolean> {
    if (this.#parts.type === 'fixed') return false;
    const { state, place } = await this.#parts.table.entry(piece.block);
    if (state === BLOCK_STATE.notPresent) return false;
    if (piece.isWhole) return this.#differencing || place > 0;
    return (
      this.#differencing && (state === BLOCK_STATE.fullyPresent || state === BLOCK_STATE.partiallyPresent)
    );
  }

  /** Forgets it. Returns the bytes of storage that become free with the next flush. */
  async discard(piece: BlockPiece): Promise<number> {
    const { table, pages } = this.#parts;
    const entry = await table.entry(piece.block);
    // Without a parent, state 2 is the one that every reader takes for zeros.
    const empty = this.#differencing ? BLOCK_STATE.notPresent : BLOCK_STATE.zero;
    if (piece.isWhole) return this.#setEmpty(piece.block, empty, entry);
    await pages.reserve(table.sectorsPerChange);
    const bitmap = await this.#bitmapOf(piece.block);
    if (entry.state === BLOCK_STATE.fullyPresent) {
      const all = { from: 0, to: this.#sectorsIn(piece.block) };
      await table.mark(bitmap, piece.block, all, true, true);
      await table.setEntry(piece.block, BLOCK_STATE.partiallyPresent, entry.place);
    }
    await table.mark(bitmap, piece.block, this.#sectorsOf(piece), false);
    const presence = await table.presence(bitmap, piece.block, this.#sectorsIn(piece.block));
    return presence === 'none' ? this.#setEmpty(piece.block, empty, entry) : 0;
  }

  /** A state without a place. */
  async #setEmpty(block: number, state: number, before: BlockEntry): Promise<number> {
    const { table, pages, space, geometry } = this.#parts;
    await pages.reserve(table.sectorsPerChange);
    await table.setEntry(block, state);
    const hadPlace = before.place > 0 && (hasPayload(before.state) || isAnchor(before.state));
    if (!hadPlace) return 0;
    space.release(before.place, geometry.blockSize);
    return geometry.blockSize;
  }

  /** The place of the sector bitmap for a block; made when there is none. Changes one sector. */
  async #bitmapOf(block: number): Promise<number> {
    const { table, space } = this.#parts;
    const chunk = table.chunkOf(block);
    const known = await table.bitmap(chunk);
    if (known !== undefined) return known;
    const place = await space.claim(BITMAP_LENGTH, true);
    await table.setBitmap(chunk, place);
    return place;
  }

  #sectorsOf(piece: BlockPiece): { from: number; to: number } {
    const { logicalSectorSize } = this.#parts.geometry;
    return {
      from: piece.within / logicalSectorSize,
      to: Math.ceil((piece.within + piece.length) / logicalSectorSize),
    };
  }

  /** Sectors of a block that the disk has. */
  #sectorsIn(block: number): number {
    const { virtualSize, blockSize, logicalSectorSize } = this.#parts.geometry;
    return Math.ceil(Math.min(blockSize, virtualSize - block * blockSize) / logicalSectorSize);
  }
}

export function hasPayload(state: number): boolean {
  return state === BLOCK_STATE.fullyPresent || state === BLOCK_STATE.partiallyPresent;
}

/** States that may keep a place whose content nobody reads. */
export function isAnchor(state: number): boolean {
  return (
    state === BLOCK_STATE.undefined || state === BLOCK_STATE.unmapped || state === BLOCK_STATE.legacyUnmapped
  );
}
