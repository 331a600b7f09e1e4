/**
 * Free ranges of a disk, to be looked up anywhere, and a chain that shows them as zeros.
 *
 * Sixteen bytes a range. Not for work in place: there one walk in order is enough (free-cursor.ts).
 */
import { type ChainExtent, clipExtent, pushExtent } from '../../block/extent.js';
import { Chain } from '../../formats/chain.js';
import type { ByteRange } from '../../io/random-access-file.js';

export class FreeRanges {
  #starts = new Float64Array(1024);
  #ends = new Float64Array(1024);
  #count = 0;

  /** @param ranges in order, without overlaps */
  static async of(ranges: AsyncIterable<ByteRange>): Promise<FreeRanges> {
    const free = new FreeRanges();
    for await (const range of ranges) free.#add(range);
    return free;
  }

  /** The parts of a range, in order, each either free or not. */
  *split(offset: number, length: number): Generator<ByteRange & { free: boolean }> {
    const end = offset + length;
    let at = offset;
    for (let index = this.#firstEndingAfter(offset); index < this.#count && at < end; index += 1) {
      const start = Math.min(end, this.#starts[index] ?? end);
      if (start > at) yield { offset: at, length: start - at, free: false };
      const stop = Math.min(end, this.#ends[index] ?? end);
      const from = Math.max(at, start);
      if (stop > from) yield { offset: from, length: stop - from, free: true };
      at = Math.max(at, stop);
    }
    if (at < end) yield { offset: at, length: end - at, free: false };
  }

  #add({ offset, length }: ByteRange): void {
    if (this.#count === this.#starts.length) {
      const starts = new Float64Array(this.#count * 2);
      const ends = new Float64Array(this.#count * 2);
      starts.set(this.#starts);
      ends.set(this.#ends);
      this.#starts = starts;
      this.#ends = ends;
    }
    this.#starts[this.#count] = offset;
    this.#ends[this.#count] = offset + length;
    this.#count += 1;
  }

  #firstEndingAfter(offset: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#ends[middle] ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** A chain in which free ranges read as zeros. */
export class ChainWithoutFree extends Chain {
  readonly #free: FreeRanges;

  constructor(chain: Chain, free: FreeRanges) {
    super(chain.images);
    this.#free = free;
  }

  override async locate(offset: number, length: number): Promise<ChainExtent[]> {
    const extents: ChainExtent[] = [];
    for (const extent of await super.locate(offset, length)) {
      for (const part of this.#free.split(extent.offset, extent.length)) {
        const { depth } = extent;
        if (part.free)
          pushExtent(extents, { state: 'zero', offset: part.offset, length: part.length, depth });
        else pushExtent(extents, clipExtent(extent, part.offset, part.length));
      }
    }
    return extents;
  }
}
