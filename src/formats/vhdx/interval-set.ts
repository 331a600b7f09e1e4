/**
 * Disjoint, sorted intervals of numbers: which ranges of a file the log turns into zeros.
 *
 * Invariant: intervals neither overlap nor touch. Adding is a binary search and one splice.
 */
export class IntervalSet {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  get size(): number {
    return this.#starts.length;
  }

  /** Index of the first interval that ends after `at`. */
  #firstEndingAfter(at: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] ?? 0) > at) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Adds `[start, end)`, merging what it touches. */
  add(start: number, end: number): void {
    if (start >= end) return;
    const first = this.#firstEndingAfter(start - 1);
    let last = first;
    let from = start;
    let to = end;
    while (last < this.#starts.length && (this.#starts[last] ?? 0) <= end) {
      from = Math.min(from, this.#starts[last] ?? from);
      to = Math.max(to, this.#ends[last] ?? to);
      last += 1;
    }
    this.#starts.splice(first, last - first, from);
    this.#ends.splice(first, last - first, to);
  }

  /** True when any of `[start, end)` is covered. */
  intersects(start: number, end: number): boolean {
    const index = this.#firstEndingAfter(start);
    return start < end && index < this.#starts.length && (this.#starts[index] ?? 0) < end;
  }

  /** Calls back with the covered parts of `[start, end)`, in order. */
  forEachWithin(start: number, end: number, visit: (from: number, to: number) => void): void {
    for (let index = this.#firstEndingAfter(start); index < this.#starts.length; index += 1) {
      const from = Math.max(this.#starts[index] ?? 0, start);
      if (from >= end) return;
      visit(from, Math.min(this.#ends[index] ?? 0, end));
    }
  }
}
