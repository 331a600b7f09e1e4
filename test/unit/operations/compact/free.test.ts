import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FreeCursor } from '../../../../src/operations/compact/free-cursor.js';
import { FreeRanges } from '../../../../src/operations/compact/free-ranges.js';

const DISK = 200;

/** Free ranges in order without overlaps, adjacent ones included. */
const ranges = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 1, max: 12 })), { maxLength: 20 })
  .map((steps) => {
    const out: { offset: number; length: number }[] = [];
    let at = 0;
    for (const [gap, length] of steps) {
      if (at + gap + length > DISK) break;
      out.push({ offset: at + gap, length });
      at += gap + length;
    }
    return out;
  });

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

function model(free: readonly { offset: number; length: number }[]): boolean[] {
  const cells = Array.from({ length: DISK }, () => false);
  for (const { offset, length } of free) cells.fill(true, offset, offset + length);
  return cells;
}

describe('FreeCursor', () => {
  it('says what is not free, for rising ranges', async () => {
    await fc.assert(
      fc.asyncProperty(ranges, fc.integer({ min: 1, max: 40 }), async (free, step) => {
        const cells = model(free);
        const cursor = new FreeCursor(each(free));
        for (let at = 0; at < DISK; at += step) {
          const length = Math.min(step, DISK - at);
          const used = new Array<boolean>(length).fill(false);
          let last = at - 1;
          for (const part of await cursor.used(at, length)) {
            expect(part.length).toBeGreaterThan(0);
            expect(part.offset).toBeGreaterThan(last);
            last = part.offset + part.length;
            used.fill(true, part.offset - at, last - at);
          }
          expect(used).toEqual(cells.slice(at, at + length).map((isFree) => !isFree));
        }
      }),
    );
  });

  it('takes everything for used without ranges', async () => {
    expect(await new FreeCursor(undefined).used(5, 7)).toEqual([{ offset: 5, length: 7 }]);
  });
});

describe('FreeRanges', () => {
  it('splits any range into what is free and what is not', async () => {
    await fc.assert(
      fc.asyncProperty(
        ranges,
        fc.integer({ min: 0, max: DISK - 1 }),
        fc.integer({ min: 1, max: DISK }),
        async (free, offset, wanted) => {
          const cells = model(free);
          const length = Math.min(wanted, DISK - offset);
          const known = await FreeRanges.of(each(free));
          const seen: boolean[] = [];
          for (const part of known.split(offset, length)) {
            expect(part.offset).toBe(offset + seen.length);
            for (let at = 0; at < part.length; at += 1) seen.push(part.free);
          }
          expect(seen).toEqual(cells.slice(offset, offset + length));
        },
      ),
    );
  });

  it('holds more ranges than it was made for', async () => {
    const many = Array.from({ length: 5000 }, (_, index) => ({ offset: index * 10, length: 5 }));
    const known = await FreeRanges.of(each(many));
    expect([...known.split(49_990, 10)]).toEqual([
      { offset: 49_990, length: 5, free: true },
      { offset: 49_995, length: 5, free: false },
    ]);
  });
});
