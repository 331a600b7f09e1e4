/**
 * Large allocation bitmaps, read piece by piece: least significant bit first, 1 for used, as NTFS and exFAT
 * have them.
 *
 * Invariants: bits past the last cluster are never looked at as clusters; runs come in order, joined, and
 * never overlap; memory does not depend on the bitmap's size.
 */

import { allSet, clearRuns } from './bitmap-runs.js';
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
  let open: ClusterRun | undefined;
  for await (const { offset, bytes } of inPieces(read, Math.ceil(bits / 8))) {
    const from = offset * 8;
    for (const { first, count } of clearRuns(bytes, 0, Math.min(bytes.length * 8, bits - from))) {
      if (open && open.start + open.count === from + first) {
        open.count += count;
      } else {
        if (open) yield open;
        open = { start: from + first, count };
      }
    }
  }
  if (open) yield open;
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
  const pageBits = PAGE_BYTES * 8;
  const end = start + count;
  for (let at = start; at < end; ) {
    const index = Math.floor(at / pageBits);
    const stop = Math.min(end, (index + 1) * pageBits);
    const { bytes } = bitmap.current(index) ?? (await bitmap.page(index));
    if (!allSet(bytes, at - index * pageBits, stop - index * pageBits)) return false;
    at = stop;
  }
  return true;
}
