/**
 * A file in memory, for tests and small work.
 *
 * Sparse: pages exist only once written, so that images of terabytes with little in them are cheap.
 * Deliberately without a descriptor: providers must fall back to buffers.
 */
import { assertBytes } from '../base/assert.js';
import { VhdkitError } from '../base/errors.js';
import type { ByteRange, FileFingerprint, RandomAccessFile } from './random-access-file.js';

const PAGE = 64 * 1024;

function newPage(part: Uint8Array, within: number): Uint8Array {
  if (part.length === PAGE) return new Uint8Array(part);
  const page = new Uint8Array(PAGE);
  page.set(part, within);
  return page;
}

export class MemoryFile implements RandomAccessFile {
  readonly path: string;
  readonly kind = 'memory';
  readonly fd = undefined;
  writable = true;
  readonly #pages = new Map<number, Uint8Array>();
  #size = 0;
  #closed = false;

  constructor(bytes: Uint8Array = new Uint8Array(0), name = 'memory') {
    this.path = name;
    this.#put(bytes, 0);
  }

  /** A copy of the whole content. */
  bytes(): Uint8Array {
    const out = new Uint8Array(this.#size);
    this.#get(out, 0);
    return out;
  }

  size(): number {
    return this.#size;
  }

  async read(buffer: Uint8Array, offset: number): Promise<number> {
    this.#assertUsable(offset);
    const count = Math.max(0, Math.min(buffer.length, this.#size - offset));
    this.#get(buffer.subarray(0, count), offset);
    return count;
  }

  async write(buffer: Uint8Array, offset: number): Promise<void> {
    this.#assertWritable(offset);
    this.#put(buffer, offset);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#assertWritable(offset);
    this.#erase(offset, offset + length);
    this.#size = Math.max(this.#size, offset + length);
  }

  async truncate(size: number): Promise<void> {
    this.#assertWritable(size);
    if (size < this.#size) this.#erase(size, this.#size);
    this.#size = size;
  }

  async flush(): Promise<void> {
    this.#assertUsable(0);
  }

  nextData(offset: number, end: number): ByteRange | undefined {
    const limit = Math.min(end, this.#size);
    let page = Math.floor(offset / PAGE);
    const last = Math.ceil(limit / PAGE);
    if (last - page > this.#pages.size) page = this.#nextPage(page, last);
    while (page < last && !this.#pages.has(page)) page += 1;
    const start = Math.max(offset, page * PAGE);
    if (start >= limit) return undefined;
    while (page < last && this.#pages.has(page)) page += 1;
    return { offset: start, length: Math.min(limit, page * PAGE) - start };
  }

  async allocatedBytes(): Promise<number> {
    return this.#pages.size * PAGE;
  }

  fingerprint(): FileFingerprint | undefined {
    return undefined;
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  /** The lowest stored page in [from, to): sparse files of terabytes are not walked page by page. */
  #nextPage(from: number, to: number): number {
    let best = to;
    for (const page of this.#pages.keys()) if (page >= from && page < best) best = page;
    return best;
  }

  #get(out: Uint8Array, offset: number): void {
    for (let at = 0; at < out.length; ) {
      const page = Math.floor((offset + at) / PAGE);
      const within = (offset + at) % PAGE;
      const part = out.subarray(at, Math.min(out.length, at + PAGE - within));
      const stored = this.#pages.get(page);
      if (stored) part.set(stored.subarray(within, within + part.length));
      else part.fill(0);
      at += part.length;
    }
  }

  #put(bytes: Uint8Array, offset: number): void {
    for (let at = 0; at < bytes.length; ) {
      const page = Math.floor((offset + at) / PAGE);
      const within = (offset + at) % PAGE;
      const part = bytes.subarray(at, Math.min(bytes.length, at + PAGE - within));
      const stored = this.#pages.get(page);
      if (stored) stored.set(part, within);
      else this.#pages.set(page, newPage(part, within));
      at += part.length;
    }
    this.#size = Math.max(this.#size, offset + bytes.length);
  }

  #erase(start: number, end: number): void {
    for (const [page, stored] of this.#pages) {
      const from = page * PAGE;
      if (from + PAGE <= start || from >= end) continue;
      if (from >= start && from + PAGE <= end) this.#pages.delete(page);
      else stored.fill(0, Math.max(start - from, 0), Math.min(end - from, PAGE));
    }
  }

  #assertUsable(offset: number): void {
    assertBytes(offset, 'offset');
    if (this.#closed)
      throw new VhdkitError('IO_FAILED', `${this.path} is closed`, { context: { path: this.path } });
  }

  #assertWritable(offset: number): void {
    this.#assertUsable(offset);
    if (!this.writable) {
      throw new VhdkitError('READ_ONLY', `${this.path} is open for reading only`, {
        context: { path: this.path },
      });
    }
  }
}
