/**
 * Which bytes of a file changed: a set of ranges that takes little memory and time whatever happens.
 *
 * Invariant: covers at least what was added. Beyond a number of ranges the smallest gaps between them are taken
 * for changed as well, so it never has many.
 *
 * What is added goes to a list without order first, which is put in order when it is full or somebody asks: a
 * server adds each of its writes.
 */

/** Ranges that are kept apart at most, and how many are when they were too many. */
const MOST = 32_768;
const AFTERWARDS = MOST / 2;
/** Ranges without order at most. */
const FRESH = 4096;

/** Starts and ends of ranges, each in order; of ranges that keep apart the two go together. */
interface Edges {
  starts: Float64Array;
  ends: Float64Array;
}

const NONE: Edges = { starts: new Float64Array(0), ends: new Float64Array(0) };

export class ChangedRanges {
  /** They keep apart. */
  #known = NONE;
  readonly #freshStarts = new Float64Array(FRESH);
  readonly #freshEnds = new Float64Array(FRESH);
  #fresh = 0;

  add(offset: number, length: number): void {
    if (length <= 0) return;
    const last = this.#fresh - 1;
    // The usual case of copies: one write goes on where the last one ended.
    if (last >= 0 && this.#freshEnds[last] === offset) {
      this.#freshEnds[last] = offset + length;
      return;
    }
    if (this.#fresh === FRESH) this.#order();
    this.#freshStarts[this.#fresh] = offset;
    this.#freshEnds[this.#fresh] = offset + length;
    this.#fresh += 1;
  }

  /** Did any byte of the range change, as far as is known? */
  overlaps(offset: number, length: number): boolean {
    if (length <= 0) return false;
    this.#order();
    const { starts, ends } = this.#known;
    let [low, high] = [0, ends.length];
    // The first range that ends behind the offset.
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((ends[middle] ?? 0) > offset) high = middle;
      else low = middle + 1;
    }
    return (starts[low] ?? Number.POSITIVE_INFINITY) < offset + length;
  }

  #order(): void {
    if (this.#fresh === 0) return;
    const starts = this.#freshStarts.subarray(0, this.#fresh).sort();
    const ends = this.#freshEnds.subarray(0, this.#fresh).sort();
    this.#fresh = 0;
    const all = joined({ starts: merged(this.#known.starts, starts), ends: merged(this.#known.ends, ends) });
    this.#known = all.starts.length > MOST ? withoutGaps(all, AFTERWARDS) : all;
  }
}

/** Two ordered lists as one. */
function merged(a: Float64Array, b: Float64Array): Float64Array {
  const all = new Float64Array(a.length + b.length);
  for (let [at, i, j] = [0, 0, 0]; at < all.length; at += 1) {
    const next = a[i] ?? Number.POSITIVE_INFINITY;
    const other = b[j] ?? Number.POSITIVE_INFINITY;
    if (next <= other) i += 1;
    else j += 1;
    all[at] = Math.min(next, other);
  }
  return all;
}

/**
 * What ranges cover together, as ranges that keep apart. Which start belongs to which end does not matter: at
 * any place it counts only how many have begun and how many have ended.
 */
function joined({ starts, ends }: Edges): Edges {
  const out = { starts: new Float64Array(starts.length), ends: new Float64Array(ends.length) };
  let count = 0;
  for (let [i, j] = [0, 0]; j < ends.length; j += 1) {
    const end = ends[j] ?? 0;
    // All that begun before have ended: here a range begins.
    if (i === j) out.starts[count] = starts[i] ?? 0;
    while (i < starts.length && (starts[i] ?? 0) <= end) i += 1;
    if (i !== j + 1) continue;
    out.ends[count] = end;
    count += 1;
  }
  return { starts: out.starts.slice(0, count), ends: out.ends.slice(0, count) };
}

/** Joins ranges across the smallest gaps until so many are left. */
function withoutGaps({ starts, ends }: Edges, most: number): Edges {
  const gap = (index: number): number => (starts[index] ?? 0) - (ends[index - 1] ?? 0);
  let excess = starts.length - most;
  const gaps = Float64Array.from({ length: starts.length - 1 }, (_, index) => gap(index + 1)).sort();
  const limit = gaps[excess - 1] ?? 0;
  const out = { starts: starts.slice(0, most), ends: ends.slice(0, most) };
  let count = 1;
  for (let index = 1; index < starts.length; index += 1) {
    if (excess > 0 && gap(index) <= limit) excess -= 1;
    else {
      out.starts[count] = starts[index] ?? 0;
      count += 1;
    }
    out.ends[count - 1] = ends[index] ?? 0;
  }
  return out;
}
