import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fillPlan, gapsOf } from '../../../../src/operations/rearrange/fill-plan.js';
import { OrderPlan, orderedPlaces } from '../../../../src/operations/rearrange/order-plan.js';
import { type Ground, type Move, UnitTable } from '../../../../src/operations/rearrange/unit-table.js';

const START = 8;

/** Units of one or two lengths with gaps between, in any order of rows; nothing below START. */
const scene = fc
  .record({
    long: fc.integer({ min: 1, max: 8 }),
    align: fc.constantFrom(1, 1, 2, 4),
    gaps: fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 60 }),
    kinds: fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }),
    obstacle: fc.option(
      fc.record({ at: fc.integer({ min: 0, max: 40 }), length: fc.integer({ min: 1, max: 9 }) }),
    ),
    seed: fc.integer(),
  })
  .map(({ long, align, gaps, kinds, obstacle, seed }) => {
    const immovable = [{ offset: 0, length: START }];
    if (obstacle) immovable.push({ offset: START + obstacle.at, length: obstacle.length });
    const ground: Ground = { immovable, placeFrom: (offset) => Math.ceil(offset / align) * align };
    const units: { fileOffset: number; length: number }[] = [];
    let end = START;
    for (const [index, gap] of gaps.entries()) {
      const length = kinds[index] ? long : 1;
      let at = end + gap;
      const [, fixed] = immovable;
      if (fixed && at < fixed.offset + fixed.length && at + length > fixed.offset)
        at = fixed.offset + fixed.length;
      units.push({ fileOffset: at, length });
      end = at + length;
    }
    // Shuffled by the seed: the order of rows is the order of the disk.
    const order = units.map((unit, index) => ({ unit, key: Math.imul(index + 1, seed | 1) >>> 0 }));
    const table = new UnitTable();
    for (const [id, { unit }] of order.sort((a, b) => a.key - b.key).entries()) table.add({ id, ...unit });
    return { ground, table };
  });

/** A file as an array of owners, to carry out moves on as a crash-safe mover does. */
class Model {
  readonly cells: number[] = [];

  constructor(table: UnitTable) {
    for (let row = 0; row < table.count; row += 1) this.put(row, table.offset(row), table.length(row));
  }

  put(row: number, at: number, length: number): void {
    for (let cell = at; cell < at + length; cell += 1) {
      expect(this.cells[cell] ?? -1).toBe(-1);
      this.cells[cell] = row;
    }
  }

  /** All copies first, then the old places become free: no copy may hit anything that was there before. */
  round(moves: readonly (Move & { from: number; length: number })[]): void {
    for (const { row, to, length } of moves) this.put(row, to, length);
    for (const { from, length } of moves) this.cells.fill(-1, from, from + length);
  }
}

function touches(ground: Ground, offset: number, length: number): boolean {
  return ground.immovable.some(
    (range) => range.offset < offset + length && range.offset + range.length > offset,
  );
}

describe('fillPlan', () => {
  it('moves each unit at most once, down, into free places', () => {
    fc.assert(
      fc.property(scene, ({ ground, table }) => {
        const model = new Model(table);
        const moved = new Set<number>();
        for (const move of [...fillPlan(table, ground)]) {
          const from = table.offset(move.row);
          const length = table.length(move.row);
          expect(moved.has(move.row)).toBe(false);
          expect(move.to).toBeLessThan(from);
          expect(move.to % 1).toBe(0);
          expect(touches(ground, move.to, length)).toBe(false);
          moved.add(move.row);
          // Places that were left stay taken here: the plan must not use them.
          model.put(move.row, move.to, length);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('leaves no gap that the last unit would fit into', () => {
    fc.assert(
      fc.property(scene, ({ ground, table }) => {
        for (const { row, to } of [...fillPlan(table, ground)]) table.setOffset(row, to);
        const last = table.byOffset().at(-1) ?? 0;
        for (const gap of gapsOf(table, ground)) {
          const place = ground.placeFrom(gap.start);
          // Space that was left by units that moved is behind the plan's back, but never below the last unit.
          if (place + table.length(last) <= gap.end) expect(place).toBeLessThan(table.offset(last));
        }
        const again = [...fillPlan(table, ground)].length;
        expect(again).toBeLessThanOrEqual(table.count);
      }),
    );
  });

  it('closes all gaps of units of one length', () => {
    const table = new UnitTable();
    for (const [id, fileOffset] of [8, 20, 12, 40, 36].entries()) table.add({ id, fileOffset, length: 4 });
    const ground: Ground = { immovable: [{ offset: 0, length: 8 }], placeFrom: (offset) => offset };
    expect([...fillPlan(table, ground)]).toEqual([
      { row: 3, to: 16 },
      { row: 4, to: 24 },
    ]);
  });
});

describe('OrderPlan', () => {
  const limits = { bytes: 64, moves: 16 };

  it('brings everything into order, never over what lies there when a round begins', () => {
    fc.assert(
      fc.property(scene, ({ ground, table }) => {
        const places = orderedPlaces(table, ground);
        const model = new Model(table);
        const misplaced = [...places].filter((place, row) => place !== table.offset(row)).length;
        const plan = new OrderPlan(table, ground, limits);
        expect(plan.left).toBe(misplaced);
        let count = 0;
        for (;;) {
          const before = Array.from({ length: table.count }, (_, row) => table.offset(row));
          const moves = plan.nextRound();
          if (moves.length === 0) break;
          count += moves.length;
          expect(moves.length).toBeLessThanOrEqual(limits.moves + 8);
          model.round(moves.map((m) => ({ ...m, from: before[m.row] ?? 0, length: table.length(m.row) })));
          for (const { row, to } of moves) expect(touches(ground, to, table.length(row))).toBe(false);
        }
        expect(plan.left).toBe(0);
        expect(Array.from({ length: table.count }, (_, row) => table.offset(row))).toEqual([...places]);
        expect(count).toBeLessThanOrEqual(2 * misplaced);
      }),
      { numRuns: 1000 },
    );
  });

  it('moves nothing that is in order', () => {
    const table = new UnitTable();
    for (let id = 0; id < 5; id += 1) table.add({ id, fileOffset: START + id * 4, length: 4 });
    const ground: Ground = { immovable: [{ offset: 0, length: START }], placeFrom: (offset) => offset };
    expect(new OrderPlan(table, ground, limits).nextRound()).toEqual([]);
  });

  it('needs one move more than there are units for one cycle', () => {
    const table = new UnitTable();
    const count = 40;
    for (let id = 0; id < count; id += 1)
      table.add({ id, fileOffset: START + ((id + 1) % count) * 4, length: 4 });
    const ground: Ground = { immovable: [{ offset: 0, length: START }], placeFrom: (offset) => offset };
    const plan = new OrderPlan(table, ground, limits);
    let moves = 0;
    for (let round = plan.nextRound(); round.length > 0; round = plan.nextRound()) moves += round.length;
    expect(moves).toBe(count + 1);
  });

  it('orders a hundred thousand shuffled units in reasonable time', () => {
    const table = new UnitTable();
    const count = 100_000;
    // 7919 is prime to the count: a permutation.
    for (let id = 0; id < count; id += 1)
      table.add({ id, fileOffset: START + ((id * 7919) % count) * 4, length: 4 });
    const ground: Ground = { immovable: [{ offset: 0, length: START }], placeFrom: (offset) => offset };
    const plan = new OrderPlan(table, ground, { bytes: 4096, moves: 256 });
    let moves = 0;
    for (let round = plan.nextRound(); round.length > 0; round = plan.nextRound()) moves += round.length;
    expect(plan.left).toBe(0);
    expect(moves).toBeLessThan(count * 1.05);
  });
});
