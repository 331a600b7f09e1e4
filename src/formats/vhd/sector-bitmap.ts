/**
 * Sector bitmaps: which sectors of a block are stored.
 *
 * Invariant: bit order is MSB first (sector s is bit 0x80 >> (s & 7) of byte s >> 3). A bitmap that is all
 * ones, the usual case, is kept as the word `full` rather than as bytes.
 */
import { SECTOR_BYTES } from './dynamic-header.js';

/** `full`: every sector of the block is stored. */
export type SectorBitmap = 'full' | Uint8Array;

export interface SectorRun {
  /** First sector within the block. */
  start: number;
  /** End, exclusive. */
  end: number;
  present: boolean;
}

/** Sectors of a block. */
export function sectorsOf(blockSize: number): number {
  return blockSize / SECTOR_BYTES;
}

function bitAt(bytes: Uint8Array, sector: number): boolean {
  return ((bytes[sector >> 3] ?? 0) & (0x80 >> (sector & 7))) !== 0;
}

/** The first sector at or after `from` whose bit differs from `present`; `end` when there is none. */
function runEnd(bytes: Uint8Array, from: number, end: number, present: boolean): number {
  const plain = present ? 0xff : 0x00;
  let sector = from;
  while (sector < end) {
    if ((sector & 7) === 0 && bytes[sector >> 3] === plain) sector += 8;
    else if (bitAt(bytes, sector) === present) sector += 1;
    else return sector;
  }
  return end;
}

/** The bitmap of a block of `sectors` sectors, from its stored bytes. */
export function parseBitmap(bytes: Uint8Array, sectors: number): SectorBitmap {
  return bitAt(bytes, 0) && runEnd(bytes, 0, sectors, true) === sectors ? 'full' : bytes;
}

/** The runs of equal bits in `[start, end)`, in order, covering it exactly. */
export function* bitmapRuns(bitmap: SectorBitmap, start: number, end: number): Generator<SectorRun> {
  if (bitmap === 'full') {
    if (start < end) yield { start, end, present: true };
    return;
  }
  for (let at = start; at < end; ) {
    const present = bitAt(bitmap, at);
    const next = runEnd(bitmap, at, end, present);
    yield { start: at, end: next, present };
    at = next;
  }
}

/**
 * The stored form of an all-ones bitmap: one bit for each sector of the block, padding zero.
 * Source: VHD specification 1.0, "Data Blocks".
 */
export function fullBitmap(blockSize: number, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  const sectors = sectorsOf(blockSize);
  out.fill(0xff, 0, sectors >> 3);
  if ((sectors & 7) !== 0) out[sectors >> 3] = (0xff << (8 - (sectors & 7))) & 0xff;
  return out;
}

/** Sets or clears the bits of the sectors in `[start, end)`. */
export function setBits(bytes: Uint8Array, start: number, end: number, present: boolean): void {
  for (let sector = start; sector < end; ) {
    if ((sector & 7) === 0 && end - sector >= 8) {
      const whole = (end - sector) >> 3;
      bytes.fill(present ? 0xff : 0, sector >> 3, (sector >> 3) + whole);
      sector += whole * 8;
      continue;
    }
    const mask = 0x80 >> (sector & 7);
    const byte = bytes[sector >> 3] ?? 0;
    bytes[sector >> 3] = present ? byte | mask : byte & ~mask;
    sector += 1;
  }
}
