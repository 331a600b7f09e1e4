/**
 * Table entries that a repair takes out: all by number, the first ones in full.
 *
 * Invariant: memory is bounded by the table: a number for each, a description for `MAX_LISTED_DROPS`.
 */
import { type DroppedEntry, MAX_LISTED_DROPS } from './repair.js';

export class DropList {
  readonly #listed: DroppedEntry[] = [];
  readonly #blocks: number[] = [];

  add(entry: DroppedEntry): void {
    this.#blocks.push(entry.block);
    if (this.#listed.length < MAX_LISTED_DROPS) this.#listed.push(entry);
  }

  get count(): number {
    return this.#blocks.length;
  }

  /** Blocks whose entries are dropped, in the order in which they were found. */
  get blocks(): readonly number[] {
    return this.#blocks;
  }

  /** In the order of the disk. */
  listed(): DroppedEntry[] {
    return [...this.#listed].sort((a, b) => a.block - b.block);
  }
}
