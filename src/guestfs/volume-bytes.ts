/**
 * Reading the structures of one volume: bounded reads, a small page cache, little-endian numbers.
 *
 * Invariants: nothing outside the volume is ever read, whatever a structure points at: such a pointer is
 * an inconsistency of the file system. One read is at most MAX_READ bytes, a cache at most CACHE_PAGES
 * pages, whatever the volume's size.
 */
import { inconsistent } from './inconsistent.js';
import type { ReadBytes } from './partition-table.js';

/** Largest single read, in bytes. */
export const MAX_READ = 1024 * 1024;
export const PAGE_BYTES = 64 * 1024;
const CACHE_PAGES = 128;

/** The volume's bytes, offsets counted from its start; a range outside of it is an inconsistency. */
export function volumeBytes(read: ReadBytes, volume: { offset: number; length: number }): ReadBytes {
  return async (offset, length) => {
    if (!Number.isSafeInteger(offset) || offset < 0 || length < 0 || offset + length > volume.length)
      throw inconsistent('it points outside its volume', volume.offset);
    if (length > MAX_READ) throw inconsistent(`a structure has ${length} bytes`, volume.offset + offset);
    return read(volume.offset + offset, length);
  };
}

/** An unsigned 64-bit number that must be a safe integer. `what` names it in the reason. */
export function safeU64(view: DataView, at: number, what: string): number {
  // Two halves: this is asked for every attribute of every file, and a bigint each would cost more.
  const high = view.getUint32(at + 4, true);
  if (high >= 2 ** 21) throw inconsistent(`${what} is impossible`);
  return high * 2 ** 32 + view.getUint32(at, true);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The bytes of a range in pieces of at most MAX_READ bytes, in order. */
export async function* inPieces(
  read: ReadBytes,
  length: number,
): AsyncGenerator<{ offset: number; bytes: Uint8Array }> {
  for (let offset = 0; offset < length; offset += MAX_READ)
    yield { offset, bytes: await read(offset, Math.min(MAX_READ, length - offset)) };
}

/** Bytes of a table and a view of the same bytes. */
export interface Page {
  bytes: Uint8Array;
  view: DataView;
}

/** A table read by pages, the most recently used of which are kept. */
export class PagedBytes {
  readonly #read: ReadBytes;
  readonly #size: number;
  readonly #pages = new Map<number, Page>();
  #lastIndex = -1;
  #last: Page | undefined;

  /** @param size bytes of the table; `read` is asked only for ranges inside it */
  constructor(read: ReadBytes, size: number) {
    this.#read = read;
    this.#size = size;
  }

  /** The page asked for last, if it is this one: what spares walks along a table a promise per entry. */
  current(index: number): Page | undefined {
    return index === this.#lastIndex ? this.#last : undefined;
  }

  /** Page `index`: bytes from index × PAGE_BYTES on. The last page is short. */
  async page(index: number): Promise<Page> {
    let page = this.#pages.get(index);
    if (page) {
      this.#pages.delete(index);
    } else {
      const offset = index * PAGE_BYTES;
      if (offset < 0 || offset >= this.#size) throw inconsistent('it points outside one of its tables');
      const bytes = await this.#read(offset, Math.min(PAGE_BYTES, this.#size - offset));
      page = { bytes, view: viewOf(bytes) };
      const oldest = this.#pages.size >= CACHE_PAGES ? this.#pages.keys().next() : undefined;
      if (oldest && !oldest.done) this.#pages.delete(oldest.value);
    }
    this.#pages.set(index, page);
    this.#lastIndex = index;
    this.#last = page;
    return page;
  }
}
