/**
 * Runs of clear bits in allocation bitmaps whose bits go from the lowest of each byte upwards. Pure.
 *
 * Invariant: runs come in order, none is empty, neighbours are joined; bits outside the range are not
 * looked at.
 */

/** A run of bits. */
export interface BitRun {
  first: number;
  count: number;
}

/** The first bit at or after `from` that is set (or clear); `end` when there is none before it. */
function find(bitmap: Uint8Array, from: number, end: number, set: boolean): number {
  const skip = set ? 0x00 : 0xff;
  let bit = from;
  while (bit < end) {
    const byte = bitmap[bit >>> 3] ?? 0xff;
    if ((bit & 7) === 0 && byte === skip) {
      bit += 8;
      continue;
    }
    if (((byte >>> (bit & 7)) & 1) === (set ? 1 : 0)) return bit;
    bit += 1;
  }
  return end;
}

/** Runs of clear bits among bits `from` to `end` (exclusive; below 2^31). Bits past the bitmap count as set. */
export function* clearRuns(bitmap: Uint8Array, from: number, end: number): Generator<BitRun> {
  let bit = from;
  while (bit < end) {
    const first = find(bitmap, bit, end, false);
    if (first >= end) return;
    bit = find(bitmap, first, end, true);
    yield { first, count: bit - first };
  }
}

/** True when bits `first` to `end` (exclusive) are all set. */
export function allSet(bitmap: Uint8Array, first: number, end: number): boolean {
  return find(bitmap, first, end, false) >= end;
}

/** Sets bits `first` to `end` (exclusive). */
export function setBits(bitmap: Uint8Array, first: number, end: number): void {
  for (let bit = first; bit < end; bit += 1) bitmap[bit >>> 3] = (bitmap[bit >>> 3] ?? 0) | (1 << (bit & 7));
}
