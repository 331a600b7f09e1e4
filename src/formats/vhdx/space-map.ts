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

  #page(number: number): Uint8Array {
    let page = this.#pages.get(number);
    if (!page) {
      page = new Uint8Array(PAGE_BITS / 8);
      this.#pages.set(number, page);
    }
    return page;
  }
}
