/**
 * The block allocation table, read page by page.
 *
 * Invariant: at most 64 pages of 64 KiB are in memory, whatever the size of the disk. Entries are handed
 * out as stored; whoever uses one as an offset checks it first (block-place.ts).
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { vhdError } from './defects.js';
import type { BlockTable } from './dynamic-header.js';
import { AsyncLru } from './lru.js';

/** Entry of a block without storage. */
export const UNALLOCATED = 0xffff_ffff;
const ENTRY_BYTES = 4;
const PAGE_BYTES = 64 * 1024;
const PAGE_ENTRIES = PAGE_BYTES / ENTRY_BYTES;
const MAX_PAGES = 64;

export class BlockAllocationTable {
  readonly #file: RandomAccessFile;
  readonly #table: BlockTable;
  readonly #pages: AsyncLru<DataView>;

  constructor(file: RandomAccessFile, table: BlockTable) {
    this.#file = file;
    this.#table = table;
    this.#pages = new AsyncLru(MAX_PAGES, (page) => this.#readPage(page));
  }

  /** Blocks of the disk: the entries beyond have no meaning. */
  get blocks(): number {
    return this.#table.blocks;
  }

  /** Byte offset of an entry in the file. */
  entryOffset(block: number): number {
    return this.#table.offset + block * ENTRY_BYTES;
  }

  /**
   * Entries of `count` blocks from `first`; the range lies inside the disk.
   * @throws IMAGE_CORRUPT when the file ends within the table, IO_FAILED
   */
  async entries(first: number, count: number): Promise<Uint32Array> {
    const out = new Uint32Array(count);
    for (let at = 0; at < count; ) {
      const block = first + at;
      const page = await this.#pages.get(Math.floor(block / PAGE_ENTRIES));
      const within = block % PAGE_ENTRIES;
      const take = Math.min(count - at, PAGE_ENTRIES - within);
      for (let each = 0; each < take; each += 1)
        out[at + each] = page.getUint32((within + each) * ENTRY_BYTES);
      at += take;
    }
    return out;
  }

  /** All entries in order, a page at a time, without disturbing the cache. */
  async *pages(): AsyncGenerator<{ first: number; entries: Uint32Array }> {
    for (let first = 0; first < this.blocks; first += PAGE_ENTRIES) {
      const view = await this.#readPage(first / PAGE_ENTRIES);
      const entries = new Uint32Array(view.byteLength / ENTRY_BYTES);
      for (let each = 0; each < entries.length; each += 1) entries[each] = view.getUint32(each * ENTRY_BYTES);
      yield { first, entries };
    }
  }

  async #readPage(page: number): Promise<DataView> {
    const first = page * PAGE_ENTRIES;
    const bytes = new Uint8Array(Math.min(PAGE_ENTRIES, this.blocks - first) * ENTRY_BYTES);
    const offset = this.entryOffset(first);
    const count = await this.#file.read(bytes, offset);
    if (count < bytes.length) {
      throw vhdError('IMAGE_CORRUPT', 'VHD_BAT_OUTSIDE_FILE', 'the file ends within the block table', {
        path: this.#file.path,
        offset: offset + count,
      });
    }
    return new DataView(bytes.buffer);
  }
}
