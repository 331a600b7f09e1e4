/**
 * Which bytes of a file changed: a set of ranges that takes little memory whatever happens.
 *
 * Invariant: covers at least what was added. Beyond a number of ranges the smallest gaps between them are taken
 * for changed as well, so it never has many.
 */

/** Ranges held at most; twice as many while they are being added. */
const MOST = 4096;

interface Range {
  start: number;
  end: number;
}

export class ChangedRanges {
  #ranges: Range[] = [];
  #sorted = true;

  add(offset: number, length: number): void {
    if (length <= 0) return;
    const end = offset + length;
    const last = this.#ranges.at(-1);
    // The usual case: one write goes on where the last one ended.
    if (last && last.end === offset) {
      last.end = end;
      return;
    }
    if (last && last.end > offset) this.#sorted = false;
    this.#ranges.push({ start: offset, end });
    if (this.#ranges.length > 2 * MOST) this.#fillGaps();
  }

  /** Did any byte of the range change, as far as is known? */
  overlaps(offset: number, length: number): boolean {
    if (length <= 0) return false;
    this.#merge();
    let [low, high] = [0, this.#ranges.length];
    // The first range that ends behind the offset.
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle]?.end ?? 0) > offset) high = middle;
      else low = middle + 1;
    }
    const found = this.#ranges[low];
    return found !== undefined && found.start < offset + length;
  }

  /** Joins ranges across the smallest gaps until few are left. */
  #fillGaps(): void {
    this.#merge();
    const ranges = this.#ranges;
    let excess = ranges.length - MOST;
    if (excess <= 0) return;
    const gap = (index: number): number => (ranges[index]?.start ?? 0) - (ranges[index - 1]?.end ?? 0);
    const gaps = Float64Array.from({ length: ranges.length - 1 }, (_, index) => gap(index + 1)).sort();
    const limit = gaps[excess - 1] ?? 0;
    const joined: Range[] = [];
    for (const [index, range] of ranges.entries()) {
      const last = joined.at(-1);
      if (last && excess > 0 && gap(index) <= limit) {
        last.end = range.end;
        excess -= 1;
      } else joined.push({ ...range });
    }
    this.#ranges = joined;
  }

  #merge(): void {
    if (this.#sorted) return;
    this.#ranges.sort((a, b) => a.start - b.start);
    const merged: Range[] = [];
    for (const range of this.#ranges) {
      const last = merged.at(-1);
      if (last && range.start <= last.end) last.end = Math.max(last.end, range.end);
      else merged.push(range);
    }
    this.#ranges = merged;
    this.#sorted = true;
  }
}
