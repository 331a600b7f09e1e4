/**
 * The block allocation table of an image that is being changed: entries as stored, with the changes that
 * are not in the file yet over them.
 *
 * Invariant: `store` writes an entry with one write that does not cross a sector, or as part of a longer
 * run; whoever calls it has made durable what the entries name.
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { BlockAllocationTable } from './bat.js';
import type { BlockTable } from './dynamic-header.js';

/** Entries written at a time: 64 KiB. */
const MAX_RUN = 16 * 1024;

export class EditableTable {
  readonly #file: RandomAccessFile;
  #table: BlockTable;
  #stored: BlockAllocationTable;
  readonly #changes = new Map<number, number>();

  constructor(file: RandomAccessFile, table: BlockTable) {
    this.#file = file;
    this.#table = table;
    this.#stored = new BlockAllocationTable(file, table);
  }

  get table(): BlockTable {
    return this.#table;
  }

  /** The table has another length (or place) now. Nothing may be waiting. */
  replace(table: BlockTable): void {
    this.#table = table;
    this.#stored = new BlockAllocationTable(this.#file, table);
  }

  /** Changes that are not in the file. */
  get waiting(): number {
    return this.#changes.size;
  }

  entryOffset(block: number): number {
    return this.#stored.entryOffset(block);
  }

  /** As BlockAllocationTable.entries. */
  async entries(first: number, count: number): Promise<Uint32Array> {
    // Changes are looked up before waiting: a flush meanwhile takes them out of the map.
    const changed: [number, number][] = [];
    if (this.#changes.size > 0) {
      for (let at = 0; at < count; at += 1) {
        const entry = this.#changes.get(first + at);
        if (entry !== undefined) changed.push([at, entry]);
      }
    }
    const entries = await this.#stored.entries(first, count);
    for (const [at, entry] of changed) entries[at] = entry;
    return entries;
  }

  async entry(block: number): Promise<number> {
    return (await this.entries(block, 1))[0] ?? 0;
  }

  set(block: number, entry: number): void {
    this.#changes.set(block, entry);
  }

  /** All entries in order, a page at a time. */
  async *pages(): AsyncGenerator<{ first: number; entries: Uint32Array }> {
    for await (const { first, entries } of this.#stored.pages()) {
      if (this.#changes.size > 0) {
        for (let at = 0; at < entries.length; at += 1) {
          const entry = this.#changes.get(first + at);
          if (entry !== undefined) entries[at] = entry;
        }
      }
      yield { first, entries };
    }
  }

  /** Writes all changes. They stay known here until `stored` is called. */
  async store(): Promise<void> {
    const blocks = Uint32Array.from(this.#changes.keys()).sort();
    for (let at = 0; at < blocks.length; ) {
      const first = blocks[at] ?? 0;
      let count = 1;
      while (count < MAX_RUN && blocks[at + count] === first + count) count += 1;
      const bytes = new Uint8Array(count * 4);
      const view = new DataView(bytes.buffer);
      for (let each = 0; each < count; each += 1) {
        view.setUint32(each * 4, this.#changes.get(first + each) ?? 0);
      }
      await this.#file.write(bytes, this.entryOffset(first));
      at += count;
    }
  }

  /** The changes are durable. */
  settle(): void {
    if (this.#changes.size === 0) return;
    this.#stored = new BlockAllocationTable(this.#file, this.#table);
    this.#changes.clear();
  }
}
