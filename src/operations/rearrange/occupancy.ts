/**
 * Who lies where in a file, asked by range.
 *
 * The file is cut into buckets as long as the shortest unit: units do not overlap, so at most one begins in
 * each. Four bytes a bucket.
 */
import type { UnitTable } from './unit-table.js';

export class Occupancy {
  readonly #units: UnitTable;
  /** Row + 1 of the unit that begins in a bucket; 0: none. */
  #buckets: Uint32Array;
  readonly #bucket: number;
  readonly #longest: number;

  constructor(units: UnitTable) {
    this.#units = units;
    let shortest = Number.MAX_SAFE_INTEGER;
    let longest = 1;
    for (let row = 0; row < units.count; row += 1) {
      shortest = Math.min(shortest, units.length(row));
      longest = Math.max(longest, units.length(row));
    }
    this.#bucket = units.count > 0 ? shortest : 1;
    this.#longest = longest;
    this.#buckets = new Uint32Array(units.count > 0 ? Math.ceil(units.fileEnd() / this.#bucket) + 1 : 1);
    for (let row = 0; row < units.count; row += 1) this.#enter(row);
  }

  /** Rows of the units that touch the range. */
  *within(offset: number, length: number): Generator<number> {
    const first = Math.max(0, Math.floor((offset - this.#longest) / this.#bucket));
    const last = Math.min(this.#buckets.length - 1, Math.floor((offset + length - 1) / this.#bucket));
    for (let index = first; index <= last; index += 1) {
      const row = (this.#buckets[index] ?? 0) - 1;
      if (row < 0) continue;
      if (this.#units.offset(row) < offset + length && this.#units.end(row) > offset) yield row;
    }
  }

  isFree(offset: number, length: number): boolean {
    for (const _row of this.within(offset, length)) return false;
    return true;
  }

  /** Moves a unit to a place that is free. */
  move(row: number, to: number): void {
    this.#buckets[Math.floor(this.#units.offset(row) / this.#bucket)] = 0;
    this.#units.setOffset(row, to);
    this.#enter(row);
  }

  #enter(row: number): void {
    const index = Math.floor(this.#units.offset(row) / this.#bucket);
    if (index >= this.#buckets.length) {
      const larger = new Uint32Array(Math.max(index + 1, this.#buckets.length * 2));
      larger.set(this.#buckets);
      this.#buckets = larger;
    }
    this.#buckets[index] = row + 1;
  }
}
