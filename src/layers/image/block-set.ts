/**
 * A set of block numbers: one bit each, in pages that exist once something in them was added.
 */
import { assert } from '../../base/assert.js';

/** Blocks of a page. */
const PAGE = 64 * 1024;
/** Every page that is full is this one. */
const FULL = new Uint8Array(PAGE / 8).fill(0xff);

export class BlockSet {
  readonly #blocks: number;
  readonly #pages = new Map<number, Uint8Array>();

  /** @param blocks numbers are below it */
  constructor(blocks: number) {
    this.#blocks = blocks;
  }

  has(block: number): boolean {
    const page = this.#pages.get(Math.floor(block / PAGE));
    const bit = block % PAGE;
    return page !== undefined && (((page[bit >>> 3] ?? 0) >>> (bit & 7)) & 1) === 1;
  }

  /** Adds `[first, end)`. */
  add(first: number, end: number): void {
    assert(first >= 0 && end <= this.#blocks, 'a block is one of the set');
    for (let block = first; block < end; ) {
      const index = Math.floor(block / PAGE);
      const stop = Math.min(end, (index + 1) * PAGE);
      let page = this.#pages.get(index);
      if (stop - block === PAGE) this.#pages.set(index, FULL);
      else if (page !== FULL) {
        if (!page) {
          page = new Uint8Array(PAGE / 8);
          this.#pages.set(index, page);
        }
        setBits(page, block % PAGE, stop - index * PAGE);
      }
      block = stop;
    }
  }

  /** The first block in `[from, end)` that is in the set, or is not; `end` when there is none. */
  next(from: number, end: number, present: boolean): number {
    for (let block = from; block < end; ) {
      const index = Math.floor(block / PAGE);
      const page = this.#pages.get(index);
      const stop = Math.min(end, (index + 1) * PAGE);
      if (!page) {
        if (!present) return block;
        block = stop;
        continue;
      }
      const same = present ? 0 : 0xff;
      for (; block < stop; block += 1) {
        const byte = page[(block % PAGE) >>> 3] ?? 0;
        if (block % 8 === 0 && block + 8 <= stop && byte === same) block += 7;
        else if (((byte >>> (block & 7)) & 1) === (present ? 1 : 0)) return block;
      }
    }
    return end;
  }
}

/** Sets bits `[from, to)`. */
function setBits(page: Uint8Array, from: number, to: number): void {
  for (let bit = from; bit < to; ) {
    if (bit % 8 === 0 && bit + 8 <= to) {
      const bytes = (to - bit) >>> 3;
      page.fill(0xff, bit >>> 3, (bit >>> 3) + bytes);
      bit += bytes * 8;
    } else {
      page[bit >>> 3] = (page[bit >>> 3] ?? 0) | (1 << (bit & 7));
      bit += 1;
    }
  }
}
