/**
 * Looks up which parts of a range are free, for ranges asked for in rising order.
 *
 * Invariant: holds one free range at a time, whatever their number.
 */
import type { ByteRange } from '../../io/random-access-file.js';

export class FreeCursor {
  readonly #ranges: AsyncIterator<ByteRange> | undefined;
  #current: ByteRange | undefined;
  #ended = false;

  /** @param ranges in order, without overlaps; undefined: nothing is free */
  constructor(ranges: AsyncIterable<ByteRange> | undefined) {
    this.#ranges = ranges?.[Symbol.asyncIterator]();
    this.#ended = ranges === undefined;
  }

  /** The parts of `[offset, offset + length)` that are not free, in order. */
  async used(offset: number, length: number): Promise<ByteRange[]> {
    const used: ByteRange[] = [];
    const end = offset + length;
    let at = offset;
    for (;;) {
      const free = await this.#from(at);
      const start = Math.min(free?.offset ?? end, end);
      if (start > at) used.push({ offset: at, length: start - at });
      if (!free || start >= end) return used;
      at = Math.min(end, free.offset + free.length);
      if (at >= end) return used;
    }
  }

  /** The first free range that ends behind `offset`. */
  async #from(offset: number): Promise<ByteRange | undefined> {
    for (;;) {
      const free = this.#current;
      if (free && free.offset + free.length > offset) return free;
      if (this.#ended) return undefined;
      const next = await this.#ranges?.next();
      if (!next || next.done) {
        this.#ended = true;
        this.#current = undefined;
        return undefined;
      }
      this.#current = next.value;
    }
  }

  /** Ends the walk over the ranges early. */
  async close(): Promise<void> {
    this.#ended = true;
    await this.#ranges?.return?.();
  }
}
