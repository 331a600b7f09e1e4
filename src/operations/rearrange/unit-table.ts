/**
 * The units of an image as columns of numbers: what rearranging plans with.
 *
 * Sixteen bytes a unit, whatever the size of the disk: a file of 2 TiB in blocks of 1 MiB takes 32 MiB.
 * Not here: reading the image's tables (its format does) and moving bytes (mover.ts).
 */
import { assert } from '../../base/assert.js';
import type { StoredUnit } from '../../formats/relocatable-image.js';

const FIRST_CAPACITY = 1024;

export class UnitTable {
  #ids = new Uint32Array(FIRST_CAPACITY);
  #offsets = new Float64Array(FIRST_CAPACITY);
  #lengths = new Uint32Array(FIRST_CAPACITY);
  #count = 0;

  /** Rows are numbered in the order in which the units come. */
  static async of(units: AsyncIterable<StoredUnit>): Promise<UnitTable> {
    const table = new UnitTable();
    for await (const unit of units) table.add(unit);
    return table;
  }

  get count(): number {
    return this.#count;
  }

  add({ id, fileOffset, length }: Pick<StoredUnit, 'id' | 'fileOffset' | 'length'>): void {
    assert(id < 2 ** 32 && length < 2 ** 32, 'unit ids and lengths fit 32 bits');
    if (this.#count === this.#ids.length) this.#grow();
    this.#ids[this.#count] = id;
    this.#offsets[this.#count] = fileOffset;
    this.#lengths[this.#count] = length;
    this.#count += 1;
  }

  id(row: number): number {
    return this.#ids[row] ?? 0;
  }

  offset(row: number): number {
    return this.#offsets[row] ?? 0;
  }

  length(row: number): number {
    return this.#lengths[row] ?? 0;
  }

  end(row: number): number {
    return this.offset(row) + this.length(row);
  }

  /** Notes that a unit is elsewhere now. */
  setOffset(row: number, offset: number): void {
    this.#offsets[row] = offset;
  }

  /** Rows in the order of the file. */
  byOffset(): Uint32Array {
    const rows = new Uint32Array(this.#count);
    for (let row = 0; row < rows.length; row += 1) rows[row] = row;
    return rows.sort((a, b) => this.offset(a) - this.offset(b));
  }

  /** Where the last unit of the file ends; 0 without units. */
  fileEnd(): number {
    let end = 0;
    for (let row = 0; row < this.#count; row += 1) end = Math.max(end, this.end(row));
    return end;
  }

  #grow(): void {
    const capacity = this.#ids.length * 2;
    const ids = new Uint32Array(capacity);
    const offsets = new Float64Array(capacity);
    const lengths = new Uint32Array(capacity);
    ids.set(this.#ids);
    offsets.set(this.#offsets);
    lengths.set(this.#lengths);
    this.#ids = ids;
    this.#offsets = offsets;
    this.#lengths = lengths;
  }
}

/** A unit that is to go elsewhere. */
export interface Move {
  row: number;
  /** File offset, bytes. */
  to: number;
}

/** A move with where the unit is before it. */
export interface PlannedMove extends Move {
  from: number;
}

/** Where a format lets units lie. */
export interface Ground {
  /** In file order, without overlaps. */
  immovable: readonly { offset: number; length: number }[];
  /** The lowest offset at or after the given one where a unit may begin. */
  placeFrom(offset: number): number;
}

/** The lowest place at or after `offset` for a unit of the length that touches nothing immovable. */
export function placeClear(ground: Ground, offset: number, length: number): number {
  let place = ground.placeFrom(offset);
  for (const range of ground.immovable) {
    if (range.offset + range.length <= place) continue;
    if (place + length <= range.offset) break;
    place = ground.placeFrom(range.offset + range.length);
  }
  return place;
}
