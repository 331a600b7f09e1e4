/**
 * Which chunks of a restore are settled, across crashes: a file of one bit a chunk, in sparse pages.
 *
 * Bits are only ever set, each after what it says is durable, so that a page half written says nothing wrong; any
 * part of it may be there. Not here: when a restore begins and ends (snapshot-set.ts).
 */
import { GroupCommit } from '../../base/group-commit.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { ChunkSet } from './chunk-set.js';
import type { SettledChunks } from './restore-run.js';

const PAGE = 4096;

export class SettledFile implements SettledChunks {
  readonly #file: RandomAccessFile;
  readonly #set: ChunkSet;
  /** Bytes of the file as they are to be, for pages with something in them. */
  readonly #pages = new Map<number, Uint8Array>();
  readonly #commits = new GroupCommit<readonly number[]>((groups) => this.#write(groups.flat()));

  private constructor(file: RandomAccessFile) {
    this.#file = file;
    this.#set = new ChunkSet();
  }

  /** The file belongs to it from now on. @param chunks of the disk @throws IO_FAILED */
  static async open(file: RandomAccessFile, chunks: number): Promise<SettledFile> {
    const settled = new SettledFile(file);
    try {
      await settled.#load(Math.min(file.size(), Math.ceil(chunks / 8)));
    } catch (error) {
      await file.close();
      throw error;
    }
    return settled;
  }

  has(chunk: number): boolean {
    return this.#set.has(chunk);
  }

  /** Several calls at the same time share a flush. */
  async add(chunks: readonly number[]): Promise<void> {
    if (chunks.length > 0) await this.#commits.add(chunks);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  async #load(size: number): Promise<void> {
    for (let at = 0; at < size; ) {
      const data = this.#file.nextData(at, size);
      if (!data) return;
      const start = Math.floor(data.offset / PAGE);
      const end = Math.ceil((data.offset + data.length) / PAGE);
      for (let page = start; page < end; page += 1) await this.#loadPage(page);
      at = end * PAGE;
    }
  }

  async #loadPage(page: number): Promise<void> {
    const bytes = new Uint8Array(PAGE);
    await this.#file.read(bytes, page * PAGE);
    if (bytes.every((byte) => byte === 0)) return;
    this.#pages.set(page, bytes);
    for (let bit = 0; bit < PAGE * 8; bit += 1)
      if (((bytes[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0) this.#set.add(page * PAGE * 8 + bit);
  }

  async #write(chunks: readonly number[]): Promise<void> {
    const touched = new Set<number>();
    for (const chunk of chunks) {
      const at = Math.floor(chunk / 8);
      const page = Math.floor(at / PAGE);
      const bytes = this.#pages.get(page) ?? new Uint8Array(PAGE);
      this.#pages.set(page, bytes);
      bytes[at % PAGE] = (bytes[at % PAGE] ?? 0) | (1 << (chunk & 7));
      touched.add(page);
    }
    for (const page of touched) await this.#file.write(this.#pages.get(page) as Uint8Array, page * PAGE);
    await this.#file.flush();
    for (const chunk of chunks) this.#set.add(chunk);
  }
}
