/**
 * Which bytes of a file changed: a set of ranges that takes little memory and time whatever happens.
 *
 * Invariant: covers at least what was added. Few ranges are kept as they are; many become a bitmap, rounded outwards
 * to 4 KiB, or more in files of more than 32 GiB, so that it has 1 MiB at most.
 *
 * Adding takes a fraction of a microsecond, every time: a server adds each of its writes, and believes storage that
 * makes it wait to be slow.
 */

/** Ranges that are kept as they are at most. */
const FEW = 4096;
const FINEST = 4096;
const MOST_BITS = 2 ** 23;

export class ChangedRanges {
  readonly #starts = new Float64Array(FEW);
  readonly #ends = new Float64Array(FEW);
  #count = 0;
  /** Starts and ends are in order, and the ranges keep apart. */
  #isOrdered = true;
  #bitmap: Bitmap | undefined;

  add(offset: number, length: number): void {
    if (length <= 0) return;
    if (this.#bitmap) {
      this.#bitmap.set(offset, offset + length);
      return;
    }
    const last = this.#count - 1;
    // The usual case of copies: one write goes on where the last one ended.
    if (last >= 0 && this.#ends[last] === offset) {
      this.#ends[last] = offset + length;
      this.#isOrdered = false;
      return;
    }
    if (this.#count === FEW) {
      this.#bitmap = this.#toBitmap();
      this.#bitmap.set(offset, offset + length);
      return;
    }
    this.#starts[this.#count] = offset;
    this.#ends[this.#count] = offset + length;
    this.#count += 1;
    this.#isOrdered = false;
  }

  /** Did any byte of the range change, as far as is known? */
  overlaps(offset: number, length: number): boolean {
    if (length <= 0) return false;
    if (this.#bitmap) return this.#bitmap.hasAny(offset, offset + length);
    if (!this.#isOrdered) this.#order();
    let [low, high] = [0, this.#count];
    // The first range that ends behind the offset.
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] ?? 0) > offset) high = middle;
      else low = middle + 1;
    }
    return low < this.#count && (this.#starts[low] ?? 0) < offset + length;
  }

  /**
   * Puts what the ranges cover together into ranges that keep apart. Which start belongs to which end does not
   * matter: at any place it counts only how many have begun and how many have ended.
   */
  #order(): void {
    const starts = this.#starts.slice(0, this.#count).sort();
    const ends = this.#ends.slice(0, this.#count).sort();
    let count = 0;
    for (let [i, j] = [0, 0]; j < ends.length; j += 1) {
      const end = ends[j] ?? 0;
      // All that have begun have ended: here a range begins.
      if (i === j) this.#starts[count] = starts[i] ?? 0;
      while (i < starts.length && (starts[i] ?? 0) <= end) i += 1;
      if (i !== j + 1) continue;
      this.#ends[count] = end;
      count += 1;
    }
    this.#count = count;
    this.#isOrdered = true;
  }

  #toBitmap(): Bitmap {
    const bitmap = new Bitmap();
    for (let index = 0; index < this.#count; index += 1)
      bitmap.set(this.#starts[index] ?? 0, this.#ends[index] ?? 0);
    return bitmap;
  }
}

/** A bit for each piece of a file, of which all have the same size. */
class Bitmap {
  #piece = FINEST;
  #bytes = new Uint8Array(FINEST);

  /** Sets the bits of all pieces that a range touches. */
  set(start: number, end: number): void {
    this.#makeRoom(end);
    const last = Math.ceil(end / this.#piece);
    for (let bit = Math.floor(start / this.#piece); bit < last; ) {
      if ((bit & 7) === 0 && last - bit >= 8) {
        this.#bytes.fill(0xff, bit >>> 3, last >>> 3);
        bit = (last >>> 3) << 3;
      } else {
        this.#bytes[bit >>> 3] = (this.#bytes[bit >>> 3] ?? 0) | (1 << (bit & 7));
        bit += 1;
      }
    }
  }

  hasAny(start: number, end: number): boolean {
    const last = Math.min(Math.ceil(end / this.#piece), this.#bytes.length * 8);
    for (let bit = Math.floor(start / this.#piece); bit < last; ) {
      const byte = this.#bytes[bit >>> 3] ?? 0;
      if (byte === 0) bit = ((bit >>> 3) + 1) << 3;
      else if ((byte & (1 << (bit & 7))) !== 0) return true;
      else bit += 1;
    }
    return false;
  }

  #makeRoom(end: number): void {
    while (end > MOST_BITS * this.#piece) this.#coarsen();
    const needed = Math.ceil(end / this.#piece / 8);
    if (needed <= this.#bytes.length) return;
    const bytes = new Uint8Array(Math.min(MOST_BITS / 8, Math.max(needed, 2 * this.#bytes.length)));
    bytes.set(this.#bytes);
    this.#bytes = bytes;
  }

  /** Pieces of twice the size. */
  #coarsen(): void {
    const old = this.#bytes;
    this.#bytes = new Uint8Array(Math.ceil(old.length / 2));
    this.#piece *= 2;
    for (let bit = 0; bit < old.length * 8; bit += 2) {
      const byte = old[bit >>> 3] ?? 0;
      if (byte === 0) bit |= 6;
      else if ((byte & (3 << (bit & 7))) !== 0)
        this.#bytes[bit >>> 4] = (this.#bytes[bit >>> 4] ?? 0) | (1 << ((bit >>> 1) & 7));
    }
  }
}
