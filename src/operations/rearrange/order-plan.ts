/**
 * Brings units into the order of their rows, one behind the other: defragmentation as rounds of moves.
 *
 * A unit goes straight to its place as soon as the place is free; what it leaves becomes free for others.
 * When nothing can go any more, all that is left are cycles: what blocks one place of a cycle is moved
 * behind everything, and the cycle unwinds. So a unit moves once, and one of each cycle twice; long cycles
 * are opened at several points, so that they do not take as many rounds as they have units. Where all move by
 * less than their length (payload that is to be aligned), each is a cycle of its own.
 *
 * Invariants: within a round nothing is moved to where something lay when the round began, so that a crash
 * during a round harms nothing; whoever carries out a round makes it durable before the next. Pure, apart
 * from the table, which follows the moves.
 */
import { Occupancy } from './occupancy.js';
import { type Ground, type Move, type PlannedMove, placeClear, type UnitTable } from './unit-table.js';

export interface RoundLimits {
  /** Bytes moved in a round. */
  bytes: number;
  /** Units moved in a round. */
  moves: number;
}

/** Where each unit belongs. */
export function orderedPlaces(units: UnitTable, ground: Ground): Float64Array {
  const places = new Float64Array(units.count);
  let end = 0;
  for (let row = 0; row < units.count; row += 1) {
    const place = placeClear(ground, end, units.length(row));
    places[row] = place;
    end = place + units.length(row);
  }
  return places;
}

/** One opening for every so many units that are stuck: each may cost a move more than needed. */
const UNITS_PER_OPENING = 64;

export class OrderPlan {
  readonly #units: UnitTable;
  readonly #ground: Ground;
  readonly #places: Float64Array;
  readonly #limits: RoundLimits;
  readonly #occupancy: Occupancy;
  /** Rows whose place may be free now; those in front of `#next` are dealt with. */
  #candidates: number[] = [];
  #next = 0;
  /** Everything in front of this row is where it belongs. */
  #settled = 0;
  /** End of all places. */
  readonly #end: number;
  /** Behind all places and units: where what is in the way goes. */
  #behind: number;
  #left = 0;

  constructor(units: UnitTable, ground: Ground, limits: RoundLimits) {
    this.#units = units;
    this.#ground = ground;
    this.#limits = limits;
    this.#places = orderedPlaces(units, ground);
    this.#occupancy = new Occupancy(units);
    const last = units.count - 1;
    const fixed = ground.immovable.at(-1);
    this.#end = Math.max(
      last < 0 ? 0 : (this.#places[last] ?? 0) + units.length(last),
      fixed ? fixed.offset + fixed.length : 0,
    );
    this.#behind = this.#end;
    for (let row = 0; row < units.count; row += 1) {
      if (this.#isPlaced(row)) continue;
      this.#left += 1;
      this.#candidates.push(row);
    }
  }

  /** Units that are not where they belong. */
  get left(): number {
    return this.#left;
  }

  /** Bytes of these units: what at least has to be moved. */
  bytesLeft(): number {
    let bytes = 0;
    for (let row = 0; row < this.#units.count; row += 1) {
      if (!this.#isPlaced(row)) bytes += this.#units.length(row);
    }
    return bytes;
  }

  /** The moves of the next round; empty when everything is in order. */
  nextRound(): PlannedMove[] {
    if (this.#left === 0) return [];
    const moves = this.#direct();
    return moves.length > 0 ? moves : this.#openCycles();
  }

  #isPlaced(row: number): boolean {
    return this.#units.offset(row) === this.#places[row];
  }

  /**
   * Units that can go to their places at once. Those that can't are candidates again when something leaves
   * their place.
   */
  #direct(): PlannedMove[] {
    const round = new Round(this.#units, this.#limits);
    while (this.#next < this.#candidates.length && !round.isFull) {
      const row = this.#candidates[this.#next] ?? 0;
      this.#next += 1;
      if (this.#isPlaced(row)) continue;
      const to = this.#places[row] ?? 0;
      const length = this.#units.length(row);
      if (round.isLeft(to, length) || !this.#occupancy.isFree(to, length)) continue;
      round.take(this.#occupancy, { row, to });
    }
    if (this.#next === this.#candidates.length) {
      this.#candidates = [];
      this.#next = 0;
    }
    this.#left -= round.moves.length;
    this.#release(round);
    return round.moves;
  }

  /** Clears the places of some units that are stuck. */
  #openCycles(): PlannedMove[] {
    const round = new Round(this.#units, this.#limits);
    const openings = Math.max(1, Math.floor(this.#left / UNITS_PER_OPENING));
    const apart = Math.floor(this.#left / openings);
    while (this.#settled < this.#units.count && this.#isPlaced(this.#settled)) this.#settled += 1;
    // What went there in earlier rounds came back meanwhile.
    this.#behind = Math.max(this.#end, this.#units.fileEnd());
    let skip = 0;
    for (let row = this.#settled; row < this.#units.count && !round.isFull; row += 1) {
      if (this.#isPlaced(row)) continue;
      if (skip === 0 || this.#isInItsOwnWay(row)) this.#clear(row, round);
      skip = skip === 0 ? apart - 1 : skip - 1;
    }
    this.#release(round);
    return round.moves;
  }

  /** A unit that is to move by less than its length has to make room in any case. */
  #isInItsOwnWay(row: number): boolean {
    return Math.abs(this.#units.offset(row) - (this.#places[row] ?? 0)) < this.#units.length(row);
  }

  /** Moves what lies at a unit's place (it may be the unit itself) behind everything. */
  #clear(row: number, round: Round): void {
    for (const blocker of [...this.#occupancy.within(this.#places[row] ?? 0, this.#units.length(row))]) {
      const length = this.#units.length(blocker);
      const to = placeClear(this.#ground, this.#behind, length);
      this.#behind = to + length;
      round.take(this.#occupancy, { row: blocker, to });
    }
  }

  /** After a round: what may go to the places that became free. */
  #release(round: Round): void {
    for (const { offset, length } of round.left) {
      for (let row = this.#firstEndingAfter(offset); row < this.#units.count; row += 1) {
        if ((this.#places[row] ?? 0) >= offset + length) break;
        if (!this.#isPlaced(row)) this.#candidates.push(row);
      }
    }
  }

  /** The first row whose place ends behind the offset. */
  #firstEndingAfter(offset: number): number {
    let low = 0;
    let high = this.#units.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#places[middle] ?? 0) + this.#units.length(middle) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The moves of a round and what they leave. */
class Round {
  readonly moves: PlannedMove[] = [];
  readonly left: { offset: number; length: number }[] = [];
  readonly #units: UnitTable;
  readonly #limits: RoundLimits;
  #bytes = 0;

  constructor(units: UnitTable, limits: RoundLimits) {
    this.#units = units;
    this.#limits = limits;
  }

  get isFull(): boolean {
    return this.moves.length >= this.#limits.moves || this.#bytes >= this.#limits.bytes;
  }

  /** Places that were left in this round are not free before it is durable. */
  isLeft(offset: number, length: number): boolean {
    return this.left.some((range) => range.offset < offset + length && range.offset + range.length > offset);
  }

  take(occupancy: Occupancy, move: Move): void {
    const length = this.#units.length(move.row);
    const from = this.#units.offset(move.row);
    this.left.push({ offset: from, length });
    this.moves.push({ ...move, from });
    this.#bytes += length;
    occupancy.move(move.row, move.to);
  }
}
