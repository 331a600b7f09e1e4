/**
 * What compacting an image would come to, from what would be given back: the plan is made, not carried out.
 *
 * Memory: the units of the image, and eight bytes for each block that would go.
 */
import type { EditableImage } from '../../formats/editable-image.js';
import { isRelocatable, type RelocatableImage, type StoredUnit } from '../../formats/relocatable-image.js';
import { fragmentation } from '../layout-facts.js';
import { fillPlan } from '../rearrange/fill-plan.js';
import { Occupancy } from '../rearrange/occupancy.js';
import { type Ground, UnitTable } from '../rearrange/unit-table.js';
import { type Decision, storedPieces } from './decide.js';
import type { StorageFacts } from './types.js';

export interface Foreseen {
  after: StorageFacts;
  moved: { units: number; bytes: number };
}

export class Forecast {
  readonly #image: EditableImage;
  /** Where something of each block that goes is in the file. */
  readonly #places: number[] = [];
  /** Bytes that the host would get back. */
  #storage = 0;

  constructor(image: EditableImage) {
    this.#image = image;
  }

  /** Notes what would be given back. */
  note({ action, parts }: Decision): void {
    for (const part of parts) for (const { length } of storedPieces(part)) this.#storage += length;
    const [first] = parts;
    if (action !== 'hollow' && first) this.#places.push(first.fileOffset);
  }

  async foresee(before: StorageFacts): Promise<Foreseen> {
    const image = this.#image;
    const allocatedBytes = Math.max(0, before.allocatedBytes - this.#storage);
    const still = { after: { ...before, allocatedBytes }, moved: { units: 0, bytes: 0 } };
    if (!isRelocatable(image)) return still;
    const dropped = image.type === 'fixed' ? [] : this.#places;
    return { ...still, ...(await planned(image, dropped, { ...before, allocatedBytes })) };
  }
}

async function planned(
  image: RelocatableImage,
  dropped: readonly number[],
  before: StorageFacts,
): Promise<Foreseen> {
  const { units, blocks } = await remaining(image, dropped);
  const ground: Ground = { immovable: image.immovable(), placeFrom: (offset) => image.placeFrom(offset) };
  const moves = fillPlan(units, ground);
  const moved = { units: moves.length, bytes: moves.reduce((sum, { row }) => sum + units.length(row), 0) };
  for (const { row, to } of moves) units.setOffset(row, to);
  const fixed = ground.immovable.at(-1);
  const end = Math.max(units.fileEnd(), fixed ? fixed.offset + fixed.length : 0);
  const fileSize = Math.min(before.fileSize, image.lengthFor(end));
  return {
    after: {
      ...before,
      fileSize,
      allocatedBlocks: blocks.count,
      fragmentation: blocks.scatter(units, ground),
    },
    moved,
  };
}

/** Rows of payload, among others. */
class PayloadRows {
  readonly #rows: number[] = [];

  get count(): number {
    return this.#rows.length;
  }

  add(row: number): void {
    this.#rows.push(row);
  }

  scatter(units: UnitTable, ground: Ground): StorageFacts['fragmentation'] {
    let extents = 0;
    let expected = -1;
    for (const row of this.#rows) {
      if (units.offset(row) !== expected) extents += 1;
      expected = ground.placeFrom(units.end(row));
    }
    return fragmentation({ allocatedBlocks: this.count, extents });
  }
}

/** The units that stay, and which of them are payload. */
async function remaining(
  image: RelocatableImage,
  dropped: readonly number[],
): Promise<{ units: UnitTable; blocks: PayloadRows }> {
  const stored = async function* (): AsyncGenerator<StoredUnit> {
    for await (const unit of image.units()) if (unit.kind !== 'anchor') yield unit;
  };
  const all = await UnitTable.of(stored());
  const occupancy = new Occupancy(all);
  const goes = new Uint8Array(all.count);
  for (const place of dropped) for (const row of occupancy.within(place, 1)) goes[row] = 1;
  const units = new UnitTable();
  const blocks = new PayloadRows();
  let row = 0;
  for await (const { id, fileOffset, length, kind } of stored()) {
    if (!goes[row] && kind === 'payload') blocks.add(units.count);
    if (!goes[row]) units.add({ id, fileOffset, length });
    row += 1;
  }
  return { units, blocks };
}
