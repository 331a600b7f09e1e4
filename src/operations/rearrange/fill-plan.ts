/**
 * Which units go into which gaps so that the file becomes short: the last ones into the lowest gaps.
 *
 * Invariants: a place is given out once, and only where nothing lies at the start; every unit moves at most
 * once, and only down. So all moves can be made in any order and in batches of any size: nothing is ever
 * written over a place that is still in use. Pure.
 */
import type { Ground, Move, UnitTable } from './unit-table.js';

interface Gap {
  start: number;
  end: number;
}

/** What is free between units and immovable parts, in file order. The space behind the last unit is none. */
export function gapsOf(units: UnitTable, ground: Ground, order = units.byOffset()): Gap[] {
  const gaps: Gap[] = [];
  let free = 0;
  let fixed = 0;
  const pass = (start: number, end: number): void => {
    if (start > free) gaps.push({ start: free, end: start });
    free = Math.max(free, end);
  };
  for (const row of order) {
    const start = units.offset(row);
    for (; fixed < ground.immovable.length; fixed += 1) {
      const range = ground.immovable[fixed];
      if (!range || range.offset > start) break;
      pass(range.offset, range.offset + range.length);
    }
    pass(start, units.end(row));
  }
  return gaps;
}

/** Looks for gaps of one length: each search goes on where the last one ended. */
class GapFinder {
  readonly #gaps: readonly Gap[];
  readonly #ground: Ground;
  readonly #length: number;
  #next = 0;

  constructor(gaps: readonly Gap[], ground: Ground, length: number) {
    this.#gaps = gaps;
    this.#ground = ground;
    this.#length = length;
  }

  /** Takes the lowest place that ends before `limit`; undefined when there is none any more. */
  take(limit: number): number | undefined {
    for (; this.#next < this.#gaps.length; this.#next += 1) {
      const gap = this.#gaps[this.#next];
      if (!gap || gap.start >= limit) return undefined;
      const place = this.#ground.placeFrom(gap.start);
      if (place + this.#length > Math.min(gap.end, limit)) continue;
      gap.start = place + this.#length;
      return place;
    }
    return undefined;
  }
}

/**
 * The moves that fill the gaps. The highest units are chosen; among themselves they keep the order of the
 * disk: every place given out to units of a length lies below all of these units. Changes nothing in `units`.
 */
export function fillPlan(units: UnitTable, ground: Ground): Move[] {
  const order = units.byOffset();
  const gaps = gapsOf(units, ground, order);
  const byLength = new Map<number, { finder: GapFinder; rows: number[]; places: number[] }>();
  for (let index = order.length - 1; index >= 0; index -= 1) {
    const row = order[index] ?? 0;
    const length = units.length(row);
    let group = byLength.get(length);
    if (!group) {
      group = { finder: new GapFinder(gaps, ground, length), rows: [], places: [] };
      byLength.set(length, group);
    }
    const to = group.finder.take(units.offset(row));
    if (to === undefined) continue;
    group.rows.push(row);
    group.places.push(to);
  }
  return [...byLength.values()].flatMap(({ rows, places }) => {
    // Places come in rising order already.
    rows.sort((a, b) => a - b);
    return rows.map((row, index) => ({ row, to: places[index] ?? 0 }));
  });
}
