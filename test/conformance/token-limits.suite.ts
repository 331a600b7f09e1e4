/** What every token store does about limits: a part of its suite. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  dueTime,
  type EvictionOrder,
  type StoreUsage,
  type TokenRecord,
  type TokenStore,
} from '../../src/offload/store/token-store.js';
import { sampleRecord } from './token-store.suite.js';

const MOMENT = 5000;

function record(id: string, more: Partial<TokenRecord> = {}): TokenRecord {
  return { ...sampleRecord(id, 1000), ttl: 10_000, ...more };
}

const persistent = (id: string, keptBytes: number, more: Partial<TokenRecord> = {}): TokenRecord =>
  record(id, { mode: 'persistent', keptPath: `/kept/${id}`, keptBytes, ...more });

async function order(store: TokenStore, which: EvictionOrder, now = MOMENT): Promise<string[]> {
  const ids: string[] = [];
  for await (const entry of store.evictionOrder(which, now)) ids.push(entry.record.id);
  return ids;
}

const refused = (reason: string) => ({ code: 'TOKEN_LIMIT', context: { reason } });

/** The same by the letter of the contract, from all records. */
function expected(records: readonly TokenRecord[], which: EvictionOrder): string[] {
  const wanted = records.filter((one) =>
    which === 'ended' ? one.revoked : !one.revoked && (which === 'tokens' || (one.keptBytes ?? 0) > 0),
  );
  const places = wanted.map((one) => {
    const due = dueTime(one);
    const rank = which === 'ended' ? [] : [due < MOMENT ? 0 : 1, one.leaving ? 0 : 1, one.priority ?? 0];
    return { rank: [...rank, due], id: one.id };
  });
  places.sort((a, b) => {
    for (const [index, value] of a.rank.entries()) {
      const difference = value - (b.rank[index] ?? 0);
      if (difference !== 0) return difference;
    }
    return a.id < b.id ? -1 : 1;
  });
  return places.map(({ id }) => id);
}

function usageOf(records: readonly TokenRecord[]): StoreUsage {
  const live = records.filter(({ revoked }) => !revoked);
  return {
    tokens: live.length,
    ended: records.length - live.length,
    keptBytes: live.reduce((sum, { keptBytes }) => sum + (keptBytes ?? 0), 0),
  };
}

export function describeLimits(
  make: () => Promise<TokenStore>,
  openTwo: () => Promise<readonly [TokenStore, TokenStore]>,
): void {
  it('has no limits until some are set, and shows them to all', async () => {
    const [first, second] = await openTwo();
    expect(await first.limits()).toEqual({});
    await first.setLimits({ tokens: 3, memory: 2 ** 40 });
    expect(await second.limits()).toEqual({ tokens: 3, memory: 2 ** 40 });
    await second.setLimits({});
    expect(await first.limits()).toEqual({});
    expect(await first.count()).toBe(0);
  });

  it('refuses a token too many, and nothing else', async () => {
    const store = await make();
    const revisions = [];
    for (const id of ['a', 'b', 'c']) revisions.push((await store.put(record(id))) ?? 0);
    // What is there already stays.
    await store.setLimits({ tokens: 2 });
    await expect(store.put(record('d'))).rejects.toMatchObject(refused('token-limit'));
    expect(await store.get('d')).toBeUndefined();
    expect(await store.update(record('a', { lastUsed: 2000 }), revisions[0] ?? 0)).toBeDefined();
    await store.update(record('b', { revoked: true }), revisions[1] ?? 0);
    await expect(store.put(record('d'))).rejects.toMatchObject(refused('token-limit'));
    await store.delete('c');
    expect(await store.put(record('d'))).toBeDefined();
    expect(await store.usage()).toEqual({ tokens: 2, ended: 1, keptBytes: 0 });
    await store.setLimits({});
    expect(await store.put(record('e'))).toBeDefined();
  });

  it('refuses keeping too much, whether it is new or grows', async () => {
    const store = await make();
    await store.setLimits({ keptBytes: 100 });
    expect(await store.put(persistent('a', 60))).toBeDefined();
    await expect(store.put(persistent('b', 41))).rejects.toMatchObject(refused('kept-limit'));
    const revision = (await store.put(persistent('b', 0))) ?? 0;
    await expect(store.update(persistent('b', 41), revision)).rejects.toMatchObject(refused('kept-limit'));
    expect((await store.get('b'))?.revision).toBe(revision);
    const grown = (await store.update(persistent('b', 40), revision)) ?? 0;
    expect(await store.usage()).toEqual({ tokens: 2, ended: 0, keptBytes: 100 });
    await store.update(persistent('b', 40, { revoked: true }), grown);
    expect(await store.usage()).toEqual({ tokens: 1, ended: 1, keptBytes: 60 });
    expect(await store.put(persistent('c', 40))).toBeDefined();
  });

  it('says who goes first: over, asked to leave, of low priority, soonest over', async () => {
    const store = await make();
    await store.setLimits({ tokens: 100 });
    const entries: TokenRecord[] = [
      record('later', { lastUsed: 3000 }),
      record('sooner', { lastUsed: 2000 }),
      record('low', { lastUsed: 4000, priority: -1 }),
      record('high', { lastUsed: 1000, priority: 7 }),
      record('over', { lastUsed: 1000, ttl: 10, priority: 9 }),
      record('leaving', { lastUsed: 4000, leaving: true, usedUntil: 9000, priority: 8 }),
      record('left', { lastUsed: 4000, leaving: true, priority: 8 }),
      persistent('kept', 5, { lastUsed: 2500 }),
      record('ended', { revoked: true }),
    ];
    for (const entry of entries) await store.put(entry);
    const wanted = ['left', 'over', 'leaving', 'low', 'sooner', 'kept', 'later', 'high'];
    expect(await order(store, 'tokens')).toEqual(wanted);
    expect(await order(store, 'kept')).toEqual(['kept']);
    expect(await order(store, 'ended')).toEqual(['ended']);
    const due: string[] = [];
    for await (const entry of store.list({ dueBy: 1010 })) due.push(entry.record.id);
    expect(due.sort()).toEqual(['left', 'over']);
  });

  it('counts and orders the same after any changes, with limits set at any time', async () => {
    const change = fc.record({
      id: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      kind: fc.constantFrom('put', 'put', 'update', 'update', 'delete', 'limits'),
      lastUsed: fc.integer({ min: 0, max: 9000 }),
      ttl: fc.constantFrom(0, 1000, 5000),
      priority: fc.integer({ min: -2, max: 2 }),
      revoked: fc.boolean(),
      leaving: fc.boolean(),
      keptBytes: fc.constantFrom(0, 0, 1, 2 ** 50),
    });
    const property = fc.asyncProperty(fc.array(change, { maxLength: 25 }), async (changes) => {
      const store = await make();
      const model = new Map<string, { record: TokenRecord; revision: number }>();
      for (const { id, kind, keptBytes, ...more } of changes) {
        const next = persistent(id, keptBytes, more);
        const known = model.get(id);
        const revision = known?.revision ?? 0;
        if (kind === 'limits') await store.setLimits(keptBytes > 1 ? {} : { tokens: 50 });
        if (kind === 'delete') expect(await store.delete(id)).toBe(model.delete(id));
        if (kind === 'put') {
          const added = await store.put(next);
          expect(added === undefined).toBe(known !== undefined);
          if (added !== undefined) model.set(id, { record: next, revision: added });
        }
        if (kind === 'update') {
          const updated = await store.update(next, revision);
          if (updated !== undefined) model.set(id, { record: next, revision: updated });
          expect(updated !== undefined).toBe(known !== undefined);
        }
      }
      const records = [...model.values()].map((entry) => entry.record);
      expect(await store.usage()).toEqual(usageOf(records));
      for (const which of ['tokens', 'kept', 'ended'] as const)
        expect(await order(store, which)).toEqual(expected(records, which));
    });
    await fc.assert(property, { numRuns: 12, endOnFailure: true });
  });

  it('of many who want the last place one gets it', async () => {
    const stores = await openTwo();
    await stores[0].setLimits({ tokens: 3 });
    const names = Array.from({ length: 10 }, (_, index) => `n${index}`);
    const results = await Promise.allSettled(
      names.map((id, index) => stores[index % 2 === 0 ? 0 : 1].put(record(id))),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    expect((await stores[1].usage()).tokens).toBe(3);
  });
}
