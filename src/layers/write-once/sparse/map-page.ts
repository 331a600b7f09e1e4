/**
 * A page of the map of written chunks, and what its two copies say together.
 *
 * Invariant: bits are only ever set. A chunk's bit goes into the first copy when the chunk's data is durable,
 * and into the second when the first is durable; so a bit of the second copy can be relied on, and a bit of the
 * first alone says that somebody is about to confirm it, or was when the machine stopped. One copy is always whole and
 * durable: neither is written before the other, as it is, has been flushed.
 *
 * Layout, little-endian: magic "WOMP" (4), CRC-32C of the page with this field zero (4), number of the page (8),
 * id of the device (16), one bit for each chunk, lowest first.
 */
import { crc32c } from '../../../base/crc32c.js';
import { CHUNKS_PER_PAGE, PAGE_BYTES, PAGE_HEADER_BYTES, type SparseLayout } from './layout.js';

const MAGIC = 0x504d_4f57;
const FIELD = { checksum: 4, number: 8, deviceId: 16 } as const;

/**
 * Pages that are written when the device is made: the map of 2 TiB in chunks of 64 KiB. Of later ones, zeros mean that
 * nothing in them was ever written, so that the largest devices need not begin with a large map.
 */
export const WRITTEN_PAGES = 1024;

export type Bits = Uint8Array;

/** What one copy of a page is. */
export type Copy = Bits | 'damaged';

/** What both copies say. */
export interface PageState {
  /** Bits that are durable for certain. */
  confirmed: Bits;
  /** These, and bits that somebody was about to confirm. */
  claimed: Bits;
  /** The first copy, as far as it is whole. */
  first: Copy;
  /** A copy that is not whole. */
  damaged: 'first' | 'second' | undefined;
}

export function hasBit(bits: Bits, index: number): boolean {
  return ((bits[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0;
}

export function setBit(bits: Bits, index: number): void {
  bits[index >>> 3] = (bits[index >>> 3] ?? 0) | (1 << (index & 7));
}

export function emptyBits(): Bits {
  return new Uint8Array(PAGE_BYTES - PAGE_HEADER_BYTES);
}

export function sameBits(a: Bits, b: Bits): boolean {
  return Buffer.compare(a, b) === 0;
}

export function encodePage(layout: SparseLayout, page: number, bits: Bits): Uint8Array {
  const bytes = new Uint8Array(PAGE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setBigUint64(FIELD.number, BigInt(page), true);
  bytes.set(layout.deviceId, FIELD.deviceId);
  bytes.set(bits, PAGE_HEADER_BYTES);
  view.setUint32(FIELD.checksum, crc32c(bytes), true);
  return bytes;
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

export function decodePage(layout: SparseLayout, page: number, bytes: Uint8Array): Copy {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC) {
    const unstarted = page >= WRITTEN_PAGES && isZero(bytes);
    return unstarted ? emptyBits() : 'damaged';
  }
  const copy = Uint8Array.from(bytes);
  copy.fill(0, FIELD.checksum, FIELD.checksum + 4);
  const sound =
    view.getUint32(FIELD.checksum, true) === crc32c(copy) &&
    view.getBigUint64(FIELD.number, true) === BigInt(page) &&
    Buffer.compare(copy.subarray(FIELD.deviceId, FIELD.deviceId + 16), layout.deviceId) === 0;
  if (!sound) return 'damaged';
  const bits = copy.slice(PAGE_HEADER_BYTES);
  for (let index = layout.chunks - page * CHUNKS_PER_PAGE; index < CHUNKS_PER_PAGE; index += 1)
    if (hasBit(bits, index)) return 'damaged';
  return bits;
}

/** What the two copies say together; undefined when both are damaged. */
export function judge(first: Copy, second: Copy): PageState | undefined {
  if (first === 'damaged') {
    if (second === 'damaged') return undefined;
    return { confirmed: second, claimed: second, first, damaged: 'first' };
  }
  if (second === 'damaged') return { confirmed: first, claimed: first, first, damaged: 'second' };
  const claimed = first.map((byte, index) => byte | (second[index] ?? 0));
  return { confirmed: second, claimed, first, damaged: undefined };
}
