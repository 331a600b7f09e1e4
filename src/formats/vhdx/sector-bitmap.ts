/**
 * Sector bitmaps (MS-VHDX 2.5.1.2, 2.5.2): which sectors of a partially present block are in this file.
 *
 * Bits are counted from the least significant one, the opposite of VHD. 1: here, 0: ask the parent.
 */

/**
 * End of the run of equal bits that starts at `from`, at most `to` (bit numbers within the page).
 * Whole words of equal bits are skipped at once.
 */
export function endOfRun(page: DataView, from: number, to: number): number {
  const set = bitAt(page, from);
  const same = set ? 0xffffffff : 0;
  let at = from + 1;
  while (at < to) {
    if ((at & 31) === 0 && at + 32 <= to && page.getUint32(at >>> 3, true) === same) {
      at += 32;
    } else if (bitAt(page, at) === set) {
      at += 1;
    } else {
      return at;
    }
  }
  return at;
}

export function bitAt(page: DataView, bit: number): boolean {
  return (page.getUint8(bit >>> 3) & (1 << (bit & 7))) !== 0;
}

/** Sets bits `[from, to)` of a bitmap; whole bytes at once. */
export function setBits(bitmap: Uint8Array, from: number, to: number): void {
  eachByte(from, to, (index, mask) => {
    bitmap[index] = (bitmap[index] ?? 0) | mask;
  });
}

/** Clears bits `[from, to)` of a bitmap. */
export function clearBits(bitmap: Uint8Array, from: number, to: number): void {
  eachByte(from, to, (index, mask) => {
    bitmap[index] = (bitmap[index] ?? 0) & ~mask;
  });
}

function eachByte(from: number, to: number, visit: (index: number, mask: number) => void): void {
  for (let bit = from; bit < to; ) {
    const start = bit & 7;
    const count = Math.min(8 - start, to - bit);
    visit(bit >>> 3, ((1 << count) - 1) << start);
    bit += count;
  }
}
