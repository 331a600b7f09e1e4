/**
 * Pages of an image's tables (BAT, sector bitmaps, metadata) while they are being changed.
 *
 * Invariants: readers see a change at once; the file sees it only through a `MetadataSink`, all changes since
 * the last time together. A page with changes stays in memory until then, others are dropped: the number of
 * changed sectors is bounded by what one log entry holds, and whoever is about to change some asks for room
 * first (`reserve`), so that changes that belong together are never torn apart. What is changed has storage in the file
 * before the change is made, so that writing it needs none.
 *
 * Not here: what the bytes mean. Changes are serialised by the caller; loading runs beside them.
 */
import { assert } from '../../base/assert.js';
import { roundDown, roundUp } from '../../base/bytes.js';
import { isZero } from '../../base/zeros.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { readExact } from './binary.js';
import { LOG_SECTOR, type LogUpdate } from './log-codec.js';
import { PAGE_LENGTH, type TablePages } from './page-cache.js';

/** Pages without changes that are kept. */
const MAX_CLEAN_PAGES = 64;

interface EditPage {
  bytes: Uint8Array;
  view: DataView;
  /** One bit for each 4 KiB of the page that was changed. */
  changed: number;
}

export class DirtyPages implements TablePages {
  #file: RandomAccessFile;
  readonly #capacity: number;
  readonly #write: () => Promise<void>;
  /** By file offset, least recently used first. */
  readonly #pages = new Map<number, EditPage>();
  readonly #loading = new Map<number, Promise<EditPage>>();
  #changedSectors = 0;

  /**
   * @param file what is read from
   * @param capacity changed sectors of 4 KiB that one write takes
   * @param write has `updates` written and then calls `settle`
   */
  constructor(file: RandomAccessFile, capacity: number, write: () => Promise<void>) {
    this.#file = file;
    this.#capacity = capacity;
    this.#write = write;
  }

  /** Reads from another view of the same bytes from now on. */
  readFrom(file: RandomAccessFile): void {
    this.#file = file;
  }

  get changedSectors(): number {
    return this.#changedSectors;
  }

  cached(offset: number): DataView | undefined {
    return this.#touch(offset)?.view;
  }

  async load(offset: number): Promise<DataView> {
    return (await this.#page(offset)).view;
  }

  /** The bytes at a place; they must not reach over a page's end. A copy. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const at = offset % PAGE_LENGTH;
    const page = await this.#page(offset - at);
    return page.bytes.slice(at, at + length);
  }

  /** Makes room for changes of `sectors` more sectors, writing what there is when it would not suffice. */
  async reserve(sectors: number): Promise<void> {
    assert(sectors <= this.#capacity, 'changes that belong together fit into one log entry');
    if (this.#changedSectors + sectors > this.#capacity) await this.#write();
  }

  /** Changes bytes `[offset, offset + length)`, which must not reach over a page's end. @throws NO_SPACE, IO_FAILED */
  async change(
    offset: number,
    length: number,
    update: (bytes: Uint8Array, view: DataView) => void,
  ): Promise<void> {
    const at = offset % PAGE_LENGTH;
    await this.#giveStorage(offset, length);
    // Others may have been read meanwhile, in the place of one that was not changed yet.
    const page = await this.#page(offset - at);
    const part = page.bytes.subarray(at, at + length);
    update(part, new DataView(part.buffer, part.byteOffset, part.length));
    const last = Math.floor((at + length - 1) / LOG_SECTOR);
    for (let sector = Math.floor(at / LOG_SECTOR); sector <= last; sector += 1) {
      const bit = 1 << sector;
      if ((page.changed & bit) === 0) this.#changedSectors += 1;
      page.changed |= bit;
    }
    assert(this.#changedSectors <= this.#capacity, 'room for changes was reserved');
  }

  /** Everything changed since the last `settle`, in file order. Copies. */
  updates(): LogUpdate[] {
    const updates: LogUpdate[] = [];
    for (const [offset, page] of [...this.#pages].sort(([a], [b]) => a - b)) {
      for (let sector = 0; page.changed >>> sector !== 0; sector += 1) {
        if (((page.changed >>> sector) & 1) === 0) continue;
        const at = sector * LOG_SECTOR;
        updates.push({ offset: offset + at, page: page.bytes.slice(at, at + LOG_SECTOR) });
      }
    }
    return updates;
  }

  /** The file has all changes. */
  settle(): void {
    for (const page of this.#pages.values()) page.changed = 0;
    this.#changedSectors = 0;
    this.#dropOldest();
  }

  /** Forgets what is known of a range: it was changed by other means. No page in it may have changes. */
  forget(offset: number, length: number): void {
    for (const [at, page] of this.#pages) {
      if (at + PAGE_LENGTH <= offset || at >= offset + length) continue;
      assert(page.changed === 0, 'changes are not forgotten');
      this.#pages.delete(at);
    }
  }

  /** Sectors with anything in them have storage: they were written, or a change of them is waiting. */
  async #giveStorage(offset: number, length: number): Promise<void> {
    const page = await this.#page(roundDown(offset, PAGE_LENGTH));
    const start = roundDown(offset, LOG_SECTOR);
    const end = roundUp(offset + length, LOG_SECTOR);
    for (let at = start; at < end; at += LOG_SECTOR) {
      const within = at % PAGE_LENGTH;
      const isChanged = (page.changed & (1 << (within / LOG_SECTOR))) !== 0;
      if (isChanged || !isZero(page.bytes.subarray(within, within + LOG_SECTOR))) continue;
      await this.#file.allocate?.(start, end - start);
      return;
    }
  }

  #touch(offset: number): EditPage | undefined {
    const page = this.#pages.get(offset);
    if (!page) return undefined;
    this.#pages.delete(offset);
    this.#pages.set(offset, page);
    return page;
  }

  /** One load per page at a time: a slow one can't bring back what was changed and written meanwhile. */
  async #page(offset: number): Promise<EditPage> {
    const known = this.#touch(offset);
    if (known) return known;
    const underway = this.#loading.get(offset);
    if (underway) return underway;
    const loading = this.#read(offset);
    this.#loading.set(offset, loading);
    try {
      return await loading;
    } finally {
      this.#loading.delete(offset);
    }
  }

  async #read(offset: number): Promise<EditPage> {
    const bytes = await readExact(this.#file, offset, PAGE_LENGTH, 'a table');
    const page: EditPage = { bytes, view: new DataView(bytes.buffer), changed: 0 };
    this.#pages.set(offset, page);
    this.#dropOldest();
    return page;
  }

  #dropOldest(): void {
    let surplus = this.#pages.size - MAX_CLEAN_PAGES;
    for (const [offset, page] of this.#pages) {
      if (surplus <= 0) return;
      if (page.changed !== 0) continue;
      this.#pages.delete(offset);
      surplus -= 1;
    }
  }
}
