/**
 * Pages of a table in a file, a few at a time.
 *
 * Invariant: at most `maxPages` pages are in memory, whatever the table's size. A page that was changed
 * is written back before it is dropped; only an image being built changes pages.
 *
 * Not here: what the bytes mean.
 */
import { KiB } from '../../base/bytes.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { readExact } from './binary.js';

/** Bytes of a page. Everything that is paged starts at a multiple of 1 MiB, so pages never straddle. */
export const PAGE_LENGTH = 64 * KiB;
const MAX_PAGES = 64;

/** Pages for reading. */
export interface TablePages {
  /** The page at a file offset (a multiple of PAGE_LENGTH) when it is in memory: no promise, no wait. */
  cached(offset: number): DataView | undefined;
  /**
   * The page at a file offset, read when needed.
   * @throws IMAGE_CORRUPT (VHDX_TRUNCATED), IO_FAILED
   */
  load(offset: number): Promise<DataView>;
}

interface Page {
  view: DataView;
  bytes: Uint8Array;
  dirty: boolean;
}

export class PageCache implements TablePages {
  readonly #file: RandomAccessFile;
  readonly #what: string;
  readonly #maxPages: number;
  /** By file offset, least recently used first. */
  readonly #pages = new Map<number, Page>();

  constructor(file: RandomAccessFile, what: string, maxPages = MAX_PAGES) {
    this.#file = file;
    this.#what = what;
    this.#maxPages = maxPages;
  }

  cached(offset: number): DataView | undefined {
    return this.#touch(offset)?.view;
  }

  async load(offset: number): Promise<DataView> {
    return (await this.#page(offset)).view;
  }

  /** Changes a page in place; it reaches the file when dropped or with `writeBack`. */
  async change(offset: number, update: (view: DataView) => void): Promise<void> {
    let page = await this.#page(offset);
    // Dropped by others between being read and this line: a change to it would be lost.
    while (this.#pages.get(offset) !== page) page = await this.#page(offset);
    update(page.view);
    page.dirty = true;
  }

  /** Writes all changed pages, in file order. */
  async writeBack(): Promise<void> {
    for (const offset of [...this.#pages.keys()].sort((a, b) => a - b)) await this.#write(offset);
  }

  #touch(offset: number): Page | undefined {
    const page = this.#pages.get(offset);
    if (!page) return undefined;
    this.#pages.delete(offset);
    this.#pages.set(offset, page);
    return page;
  }

  async #page(offset: number): Promise<Page> {
    const known = this.#touch(offset);
    if (known) return known;
    const bytes = await readExact(this.#file, offset, PAGE_LENGTH, this.#what);
    // Somebody else may have read, or even changed, the same page meanwhile: theirs counts.
    const other = this.#touch(offset);
    if (other) return other;
    const page: Page = { bytes, view: new DataView(bytes.buffer), dirty: false };
    this.#pages.set(offset, page);
    await this.#dropOldest();
    return page;
  }

  async #dropOldest(): Promise<void> {
    for (const offset of this.#pages.keys()) {
      if (this.#pages.size <= this.#maxPages) return;
      await this.#write(offset);
      if (this.#pages.get(offset)?.dirty === false) this.#pages.delete(offset);
    }
  }

  async #write(offset: number): Promise<void> {
    const page = this.#pages.get(offset);
    if (!page?.dirty) return;
    // Cleared first: a change made while the write is under way makes the page dirty again.
    page.dirty = false;
    try {
      await this.#file.write(page.bytes, offset);
    } catch (error) {
      page.dirty = true;
      throw error;
    }
  }
}
