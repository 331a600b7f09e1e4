/**
 * Allocation bitmaps with the least significant bit first and 1 for used, as NTFS and exFAT have them.
 *
 * Invariants: bits past the last cluster are never looked at as clusters; runs come in order, joined, and
 * never overlap; memory does not depend on the bitmap's size.
 */

import type { ReadBytes } from './partition-table.js';
import { inPieces, PAGE_BYTES, type PagedBytes } from './volume-bytes.js';

/** A run of clusters (or blocks), counted from the bitmap's first bit. */
export interface ClusterRun {
  start: number;
  count: number;
}

/** Set bits of each byte value. */
const ONES = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length);

/** The free (0) bits among the first `bits` bits. `read` delivers bytes of the bitmap. */
export async function* freeRuns(read: ReadBytes, bits: number): AsyncGenerator<ClusterRun> {
  let start = -1;
  for await (const { offset, bytes } of inPieces(read, Math.ceil(bits / 8))) {
    for (let index = 0; index < bytes.length; index += 1) {
      const byte = bytes[index] ?? 0xff;
      // Whole bytes in the state we are in are the common case.
      if (byte === (start < 0 ? 0xff : 0)) continue;
      const first = (offset + index) * 8;
      for (let bit = 0; bit < 8 && first + bit < bits; bit += 1) {
        const used = (byte & (1 << bit)) !== 0;
        if (!used && start < 0) start = first + bit;
        if (used && start >= 0) {
          yield { start, count: first + bit - start };
          start = -1;
        }
      }
    }
  }
  if (start >= 0) yield { start, count: bits - start };
}

/** How many of the first `bits` bits are set. */
export async function countUsed(read: ReadBytes, bits: number): Promise<number> {
  let used = 0;
  const whole = Math.floor(bits / 8);
  for await (const { bytes } of inPieces(read, whole))
    for (let index = 0; index < bytes.length; index += 1) used += ONES[bytes[index] ?? 0] ?? 0;
  if (bits % 8 === 0) return used;
  const [last = 0] = await read(whole, 1);
  return used + (ONES[last & ((1 << (bits % 8)) - 1)] ?? 0);
}

/** True when all bits from `bits` to the end of a bitmap of `size` bytes are set. */
export async function tailIsSet(read: ReadBytes, bits: number, size: number): Promise<boolean> {
  const first = Math.floor(bits / 8);
  for (let at = first; at < size; at += PAGE_BYTES) {
    const bytes = await read(at, Math.min(PAGE_BYTES, size - at));
    const clusters = at === first ? (1 << (bits % 8)) - 1 : 0;
    if (bytes.some((byte, index) => (index === 0 ? byte | clusters : byte) !== 0xff)) return false;
  }
  return true;
}

/** True when all clusters of the run are marked used. */
export async function allUsed(bitmap: PagedBytes, { start, count }: ClusterRun): Promise<boolean> {
  const end = start + count;
  for (let at = start; at < end; ) {
    const page = await bitmap.page(Math.floor(at / 8 / PAGE_BYTES));
    const pageBits = (Math.floor(at / 8 / PAGE_BYTES) + 1) * PAGE_BYTES * 8;
    const stop = Math.min(end, pageBits);
    while (at < stop) {
      const byte = page[Math.floor(at / 8) % PAGE_BYTES] ?? 0;
      if (at % 8 === 0 && stop - at >= 8) {
        if (byte !== 0xff) return false;
        at += 8;
      } else {
        if ((byte & (1 << (at % 8))) === 0) return false;
        at += 1;
      }
    }
  }
  return true;
}
