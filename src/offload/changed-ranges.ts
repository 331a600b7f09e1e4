/**
 * Which bytes of a file changed: a set of ranges that takes little memory whatever happens.
 *
 * Invariant: covers at least what was added. What it holds beyond a number of ranges is rounded outwards, in
 * ever larger steps, so it never has many.
 */

/** Ranges held at most; twice as many while they are being added. */
const MOST = 4096;

interface Range {
  start: number;
  end: number;
}

export class ChangedRanges {
  #ranges: Range[] = [];
  #grain = 1;
  #sorted = true;

  add(offset: number, length: number): void {
    if (length <= 0) return;
    const start = offset - (offset % this.#grain);
    const end = Math.ceil((offset + length) / this.#grain) * this.#grain;
    const last = this.#ranges.at(-1);
    // The usual case: one write goes on where the last one ended.
    if (last && last.end === start) {
      last.end = end;
      return;
    }
    this.#ranges.push({ start, end });
    this.#sorted = false;
    while (this.#ranges.length > 2 * MOST) this.#coarsen();
  }

  /** Did any byte of the range change, as far as is known? */
  overlaps(offset: number, length: number): boolean {
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

  #coarsen(): void {
    this.#merge();
    if (this.#ranges.length <= MOST) return;
    this.#grain = Math.max(this.#grain * 2, 4096);
    const grain = this.#grain;
    for (const range of this.#ranges) {
      range.start -= range.start % grain;
      range.end = Math.ceil(range.end / grain) * grain;
    }
    this.#sorted = false;
    this.#merge();
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
