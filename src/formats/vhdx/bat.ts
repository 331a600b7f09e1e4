/**
 * The block allocation table (MS-VHDX 2.5): entry codec and index arithmetic.
 *
 * Invariant: offsets are counted in MiB here (the entry's own unit), because an entry can name places up
 * to 2^64 that are no safe byte counts; whoever turns one into bytes has checked it against the file.
 * Entries are read as two u32 halves: tables have up to 67 million of them.
 */
import { SECTOR_BITMAP_LENGTH, SECTORS_PER_CHUNK } from './layout.js';

/** Payload block states (MS-VHDX 2.5.1.1). */
export const BLOCK_STATE = {
  notPresent: 0,
  undefined: 1,
  zero: 2,
  unmapped: 3,
  /** Unmapped in a draft of the format; reserved now. */
  legacyUnmapped: 5,
  fullyPresent: 6,
  partiallyPresent: 7,
} as const;

/** Sector bitmap block states (MS-VHDX 2.5.1.2). */
export const BITMAP_STATE = { notPresent: 0, present: 6 } as const;

export const BAT_ENTRY_LENGTH = 8;
export const MAX_OFFSET_MIB = 2 ** 44 - 1;

export interface BatEntry {
  /** 0…7. */
  state: number;
  /** File offset in MiB. */
  offsetMiB: number;
  /** Whether any of the reserved bits 3…19 is set. */
  reservedBits: boolean;
}

export function entryState(low: number): number {
  return low & 7;
}

export function entryOffsetMiB(low: number, high: number): number {
  return (low >>> 20) + high * 4096;
}

export function decodeEntry(low: number, high: number): BatEntry {
  return {
    state: entryState(low),
    offsetMiB: entryOffsetMiB(low, high),
    reservedBits: (low & 0xffff8) !== 0,
  };
}

/** Writes an entry at a byte position of a table. */
export function encodeEntry(view: DataView, at: number, state: number, offsetMiB: number): void {
  view.setUint32(at, (((offsetMiB % 4096) << 20) | state) >>> 0, true);
  view.setUint32(at + 4, Math.floor(offsetMiB / 4096), true);
}

/** The numbers that place a disk's entries in its table. */
export interface BatGeometry {
  virtualSize: number;
  blockSize: number;
  logicalSectorSize: number;
  /** Payload blocks per sector bitmap block. */
  chunkRatio: number;
  /** Payload blocks. */
  blocks: number;
  /** Sector bitmap blocks (chunks). */
  chunks: number;
}

export function batGeometry(virtualSize: number, blockSize: number, logicalSectorSize: number): BatGeometry {
  const chunkRatio = (SECTORS_PER_CHUNK * logicalSectorSize) / blockSize;
  const blocks = Math.ceil(virtualSize / blockSize);
  return {
    virtualSize,
    blockSize,
    logicalSectorSize,
    chunkRatio,
    blocks,
    chunks: Math.ceil(blocks / chunkRatio),
  };
}

/** Entries a table must have: the bitmap entry of a last chunk only where bitmaps are used. */
export function neededEntries(geometry: BatGeometry, differencing: boolean): number {
  const { blocks, chunks, chunkRatio } = geometry;
  return differencing ? chunks * (chunkRatio + 1) : blocks + Math.floor((blocks - 1) / chunkRatio);
}

/** Index of a payload block's entry: a bitmap entry follows every `chunkRatio` payload entries. */
export function payloadIndex(geometry: BatGeometry, block: number): number {
  return block + Math.floor(block / geometry.chunkRatio);
}

/** Index of a chunk's sector bitmap entry. */
export function bitmapIndex(geometry: BatGeometry, chunk: number): number {
  return chunk * (geometry.chunkRatio + 1) + geometry.chunkRatio;
}

/** Bits of the sector bitmap that describe one block. */
export function sectorsPerBlock(geometry: BatGeometry): number {
  return geometry.blockSize / geometry.logicalSectorSize;
}

/** MiB that a sector bitmap block takes in the file. */
export const SECTOR_BITMAP_MIB = SECTOR_BITMAP_LENGTH / 2 ** 20;
