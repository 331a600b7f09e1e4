/**
 * A set of chunk numbers as bits in pages that exist once something was put there.
 *
 * Two uses: hints that may be forgotten (with a limit, the page that came first goes first), and facts
 * (without a limit). A page stands for 32768 chunks, which is 2 GiB of disk in chunks of 64 KiB.
 */

const PAGE_BYTES = 4096;
const PAGE_BITS = PAGE_BYTES * 8;

export class ChunkSet {
  readonly #pages = new Map<number, Uint8Array>();
  readonly #maxPages: number;

  /** @param maxBytes of memory; what is more is forgotten */
  constructor(maxBytes = Number.POSITIVE_INFINITY) {
    this.#maxPages = Math.max(1, Math.floor(maxBytes / PAGE_BYTES));
  }

  has(chunk: number): boolean {
    const page = this.#pages.get(Math.floor(chunk / PAGE_BITS));
    if (page === undefined) return false;
    const bit = chunk % PAGE_BITS;
    return ((page[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;
  }

  /** Whether all of `first..last` are in it. */
  hasAll(first: number, last: number): boolean {
    for (let chunk = first; chunk <= last; chunk += 1) if (!this.has(chunk)) return false;
    return true;
  }

  add(chunk: number): void {
    const index = Math.floor(chunk / PAGE_BITS);
    let page = this.#pages.get(index);
    if (page === undefined) {
      page = this.#makePage(index);
    }
    const bit = chunk % PAGE_BITS;
    page[bit >> 3] = (page[bit >> 3] ?? 0) | (1 << (bit & 7));
  }

  clear(): void {
    this.#pages.clear();
  }

  #makePage(index: number): Uint8Array {
    if (this.#pages.size >= this.#maxPages) {
      const [oldest] = this.#pages.keys();
      if (oldest !== undefined) this.#pages.delete(oldest);
    }
    const page = new Uint8Array(PAGE_BYTES);
    this.#pages.set(index, page);
    return page;
  }
}
