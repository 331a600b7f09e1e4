/**
 * Which MiB of a file are taken: one bit each, for exact overlap checks in bounded memory.
 *
 * Everything in a VHDX starts and ends on 1 MiB boundaries, so a bit per MiB is exact. Bits are kept in
 * pages that exist once something in them is taken; 256 TiB are 32 MiB at most.
 */
import { MiB } from '../../base/bytes.js';
import { MAX_FILE_OFFSET } from './layout.js';

const PAGE_BITS = 64 * 1024 * 8;

export class SpaceMap {
  readonly #pages = new Map<number, Uint8Array>();
  #taken = 0;

  /** MiB taken so far. */
  get taken(): number {
    return this.#taken;
  }

  /**
   * Takes `[first, first + count)` (MiB). Returns true when any of it was taken before.
   * What lies beyond 256 TiB is not looked at; callers refuse it before.
   */
  take(first: number, count: number): boolean {
    const end = Math.min(first + count, MAX_FILE_OFFSET / MiB);
    let conflict = false;
    for (let at = first; at < end; at += 1) {
      const page = this.#page(Math.floor(at / PAGE_BITS));
      const bit = at % PAGE_BITS;
      const mask = 1 << (bit & 7);
      const byte = page[bit >>> 3] ?? 0;
      if ((byte & mask) !== 0) {
        conflict = true;
      } else {
        page[bit >>> 3] = byte | mask;
        this.#taken += 1;
      }
    }
    return conflict;
  }

  /** Gives `[first, first + count)` (MiB) back. */
  give(first: number, count: number): void {
    for (let at = first; at < first + count; at += 1) {
      if (this.#isFree(at)) continue;
      const page = this.#page(Math.floor(at / PAGE_BITS));
      const bit = at % PAGE_BITS;
      page[bit >>> 3] = (page[bit >>> 3] ?? 0) & ~(1 << (bit & 7));
      this.#taken -= 1;
    }
  }

  /** The first run of `count` free MiB in `[from, end)`; undefined when there is none. */
  findFree(from: number, end: number, count: number): number | undefined {
    let start = from;
    for (let at = from; at < end && start + count <= end; ) {
      if (at % 8 === 0 && this.#isFullByte(at)) {
        at += 8;
        start = at;
      } else if (this.#isFree(at)) {
        at += 1;
        if (at - start === count) return start;
      } else {
        at += 1;
        start = at;
      }
    }
    return undefined;
  }

  /** Runs of taken MiB, in order; those that cross a page of the map come in parts. */
  *runs(): Generator<{ first: number; count: number }> {
    for (const number of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const start = number * PAGE_BITS;
      const end = start + PAGE_BITS;
      for (let at = start; at < end; ) {
        const first = at;
        while (at < end && !this.#isFree(at)) at += 1;
        if (at > first) yield { first, count: at - first };
        else at += 1;
      }
    }
  }

  /** End of the last MiB taken before `end`; 0 when there is none. */
  endBefore(end: number): number {
    let at = end;
    while (at > 0 && this.#isFree(at - 1)) at -= 1;
    return at;
  }

  #isFree(at: number): boolean {
    const page = this.#pages.get(Math.floor(at / PAGE_BITS));
    const bit = at % PAGE_BITS;
    return page === undefined || ((page[bit >>> 3] ?? 0) & (1 << (bit & 7))) === 0;
  }

  #isFullByte(at: number): boolean {
    return this.#pages.get(Math.floor(at / PAGE_BITS))?.[(at % PAGE_BITS) >>> 3] === 0xff;
  }

  #page(number: number): Uint8Array {
    let page = this.#pages.get(number);
    if (!page) {
      page = new Uint8Array(PAGE_BITS / 8);
      this.#pages.set(number, page);
    }
    return page;
  }
}
