/**
 * The chunks of btrfs: which logical addresses lie where on the device.
 *
 * Invariant: chunks lie apart from each other in both spaces, inside the device and behind the part at its
 * start that is never allocated. Only chunks whose every copy is one piece on this device can be mapped
 * (single, DUP); the others are known to be in use and nothing more.
 *
 * Source: btrfs documentation, "On-disk Format", "CHUNK_ITEM".
 */
import { inconsistent } from '../inconsistent.js';
import { viewOf } from '../volume-bytes.js';
import { type BtrfsSuperblock, RESERVED_BYTES } from './superblock.js';

const CHUNK_HEADER = 48;
const STRIPE_BYTES = 32;
const KEY_BYTES = 17;
export const CHUNK_ITEM = 228;
const FIRST_CHUNK_TREE = 256n;
/** RAID0, RAID1, RAID10, RAID5, RAID6, RAID1C3, RAID1C4. */
const STRIPED = 0x8n | 0x10n | 0x40n | 0x80n | 0x100n | 0x200n | 0x400n;
/** Ours: bounds memory; 64 TiB in chunks of 1 GiB are 65536. */
const MAX_CHUNKS = 2 ** 18;

export interface Chunk {
  /** Logical bytes. */
  logical: number;
  length: number;
  /** Offsets on the device of its copies, each `length` bytes; empty when it can't be mapped. */
  copies: number[];
}

/** A piece of the device that belongs to a chunk. */
export interface DevicePiece {
  offset: number;
  length: number;
  /** Undefined: in use, and not looked into. */
  chunk: Chunk | undefined;
}

export class ChunkMap {
  readonly #chunks: Chunk[] = [];
  readonly #pieces: DevicePiece[] = [];

  /** Chunks in logical order, once sealed. */
  get chunks(): readonly Chunk[] {
    return this.#chunks;
  }

  /** Pieces in the order of the device, once sealed. */
  get pieces(): readonly DevicePiece[] {
    return this.#pieces;
  }

  /** Adds the chunk of an item. @throws IMAGE_CORRUPT (`inconsistent`) */
  add(sb: BtrfsSuperblock, logical: number, item: Uint8Array): void {
    const view = viewOf(item);
    const stripes = item.length >= CHUNK_HEADER ? view.getUint16(44, true) : 0;
    if (stripes === 0 || item.length !== CHUNK_HEADER + stripes * STRIPE_BYTES)
      throw inconsistent('one of its chunks is damaged');
    const length = Number(view.getBigUint64(0, true));
    const striped = (view.getBigUint64(24, true) & STRIPED) !== 0n;
    if (striped) throw inconsistent('it has striped or mirrored chunks, which are not understood');
    if (!(Number.isSafeInteger(logical + length) && length > 0 && length % sb.sectorSize === 0))
      throw inconsistent('one of its chunks is damaged');
    const copies: number[] = [];
    for (let index = 0; index < stripes; index += 1) {
      const at = CHUNK_HEADER + index * STRIPE_BYTES;
      const offset = Number(view.getBigUint64(at + 8, true));
      if (view.getBigUint64(at, true) !== sb.deviceId) throw inconsistent('it spans several devices');
      if (!(offset >= RESERVED_BYTES && offset + length <= sb.deviceBytes))
        throw inconsistent('one of its chunks lies outside');
      copies.push(offset);
    }
    if (this.#chunks.push({ logical, length, copies }) > MAX_CHUNKS)
      throw inconsistent('it has too many chunks');
  }

  /** Sorts, and checks that nothing overlaps. @throws IMAGE_CORRUPT (`inconsistent`) */
  seal(): void {
    this.#chunks.sort((a, b) => a.logical - b.logical);
    for (const chunk of this.#chunks)
      for (const offset of chunk.copies) this.#pieces.push({ offset, length: chunk.length, chunk });
    this.#pieces.sort((a, b) => a.offset - b.offset);
    const overlap = (list: readonly { at: number; length: number }[]): boolean =>
      list.some((entry, index) => {
        const before = list[index - 1];
        return before !== undefined && before.at + before.length > entry.at;
      });
    const logical = this.#chunks.map(({ logical: at, length }) => ({ at, length }));
    const physical = this.#pieces.map(({ offset: at, length }) => ({ at, length }));
    if (overlap(logical) || overlap(physical)) throw inconsistent('its chunks overlap');
  }

  /** The place on the device of a logical range that must lie in one chunk. @throws IMAGE_CORRUPT (`inconsistent`) */
  toDevice(logical: number, length: number): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#chunks[middle]?.logical ?? 0) <= logical) low = middle + 1;
      else high = middle;
    }
    const chunk = this.#chunks[low - 1];
    const [copy] = chunk?.copies ?? [];
    if (!chunk || copy === undefined || logical + length > chunk.logical + chunk.length)
      throw inconsistent(`address ${logical} lies in no chunk`);
    return copy + (logical - chunk.logical);
  }
}

/** The chunks that the superblock itself lists. @throws IMAGE_CORRUPT (`inconsistent`) */
export function systemChunks(sb: BtrfsSuperblock): ChunkMap {
  const map = new ChunkMap();
  const bytes = sb.systemChunks;
  const view = viewOf(bytes);
  for (let at = 0; at < bytes.length; ) {
    const item = at + KEY_BYTES;
    if (item + CHUNK_HEADER > bytes.length) throw inconsistent('its system chunks are damaged');
    const isChunk = view.getBigUint64(at, true) === FIRST_CHUNK_TREE && view.getUint8(at + 8) === CHUNK_ITEM;
    const end = item + CHUNK_HEADER + view.getUint16(item + 44, true) * STRIPE_BYTES;
    if (!isChunk || end > bytes.length) throw inconsistent('its system chunks are damaged');
    map.add(sb, Number(view.getBigUint64(at + 9, true)), bytes.subarray(item, end));
    at = end;
  }
  map.seal();
  return map;
}
