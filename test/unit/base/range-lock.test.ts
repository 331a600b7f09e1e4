/**
 * Range locks against a model: exclusion, order of arrival, nobody left waiting.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RangeLock } from '../../../src/base/range-lock.js';

/** Lets everything that can go on go on. */
async function settle(): Promise<void> {
  for (let i = 0; i < 10; i += 1) await Promise.resolve();
}

describe('RangeLock', () => {
  it('lets ranges that do not meet go on at once', async () => {
    const lock = new RangeLock();
    await lock.take(0, 10, 'exclusive');
    await lock.take(10, 10, 'exclusive');
    expect(lock.isFree(20, 1, 'exclusive')).toBe(true);
    expect(lock.isFree(19, 1, 'shared')).toBe(false);
  });

  it('does not let a late reader overtake a waiting writer', async () => {
    const lock = new RangeLock();
    const order: string[] = [];
    const first = await lock.take(0, 10, 'shared');
    const writer = lock.take(5, 10, 'exclusive').then((release) => {
      order.push('writer');
      release();
    });
    const reader = lock.take(0, 10, 'shared').then((release) => {
      order.push('reader');
      release();
    });
    await settle();
    expect(order).toEqual([]);
    first();
    first();
    await Promise.all([writer, reader]);
    expect(order).toEqual(['writer', 'reader']);
    expect(lock.size).toBe(0);
  });

  it('gives the range back when the work fails', async () => {
    const lock = new RangeLock();
    await expect(
      lock.hold(0, 1, 'exclusive', async () => {
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    expect(lock.isFree(0, 1, 'exclusive')).toBe(true);
  });

  it('excludes and serves in order (any requests)', async () => {
    const request = fc.record({
      offset: fc.nat(20),
      length: fc.integer({ min: 1, max: 8 }),
      shared: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(request, { maxLength: 30 }),
        fc.infiniteStream(fc.nat(29)),
        async (requests, picks) => {
          const lock = new RangeLock();
          const held = new Map<number, () => void>();
          const granted: number[] = [];
          const meet = (a: number, b: number): boolean => {
            const [x, y] = [requests[a], requests[b]];
            if (!x || !y || (x.shared && y.shared)) return false;
            return x.offset < y.offset + y.length && y.offset < x.offset + x.length;
          };
          for (const [index, { offset, length, shared }] of requests.entries()) {
            void lock.take(offset, length, shared ? 'shared' : 'exclusive').then((release) => {
              for (const other of held.keys()) expect(meet(index, other)).toBe(false);
              held.set(index, release);
              granted.push(index);
            });
            await settle();
            const [pick] = picks.take(1);
            const victim = [...held.keys()][(pick ?? 0) % Math.max(1, held.size)];
            if ((pick ?? 0) % 2 === 0 && victim !== undefined) {
              held.get(victim)?.();
              held.delete(victim);
              await settle();
            }
          }
          while (held.size > 0) {
            const [victim] = held.keys();
            if (victim === undefined) break;
            held.get(victim)?.();
            held.delete(victim);
            await settle();
          }
          expect(granted.length).toBe(requests.length);
          for (const [at, index] of granted.entries()) {
            for (const later of granted.slice(at + 1))
              if (later < index) expect(meet(later, index)).toBe(false);
          }
        },
      ),
      { numRuns: 200, endOnFailure: true },
    );
  });
});
