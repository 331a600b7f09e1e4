/** The suite every token store passes. */
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { TokenRecord, TokenStore, WalkOptions } from '../../src/offload/store/token-store.js';
import { describeLimits } from './token-limits.suite.js';

export function sampleRecord(id: string, lastUsed = 1): TokenRecord {
  return {
    id,
    random: 'ab'.repeat(32),
    mode: 'change-vulnerable',
    path: '/disks/a.vhdx',
    offset: 2 ** 45,
    length: 2 ** 40 + 1,
    ttl: 60_000,
    created: 1.7e12,
    lastUsed,
    revoked: false,
    fingerprint: { device: 1n, inode: -(2n ** 63n), size: 3n, mtime: 1_700_000_000_123_456_789n, ctime: 5n },
  };
}

/** With every field there is. */
function fullRecord(id: string): TokenRecord {
  return {
    ...sampleRecord(id),
    mode: 'persistent',
    path: '/disks/Ünïcode "quoted"\n/\u{1f4bf}.vhdx',
    expires: 1.8e12 + 0.5,
    priority: -3,
    keptPath: '/disks/.kept/1',
    keptBytes: 2 ** 50,
    owner: { host: 'a.example', pid: 4711, started: '123456' },
    labels: { note: 'for the night run', purpose: '' },
  };
}

async function ids(store: TokenStore, options?: WalkOptions): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of store.list(options)) found.push(entry.record.id);
  return found.sort();
}

/** Two openings of one new store, as two processes have; a store that can't be shared gives the same twice. */
export type OpenTwice = () => Promise<readonly [TokenStore, TokenStore]>;

export function describeTokenStore(name: string, open: OpenTwice): void {
  const openTwo = async (): Promise<readonly [TokenStore, TokenStore]> => {
    const stores = await open();
    onTestFinished(async () => {
      for (const store of stores) await store.close();
    });
    return stores;
  };
  const make = async (): Promise<TokenStore> => (await openTwo())[0];

  describe(`token store: ${name}`, () => {
    describeRecords(make);
    describeSharing(openTwo);
    describeRaces(openTwo);
    describeLimits(make, openTwo);
  });
}

function describeRecords(make: () => Promise<TokenStore>): void {
  const record = sampleRecord;

  it('gives back what was put, exactly', async () => {
    const store = await make();
    const revision = await store.put(record('a'));
    expect(await store.get('a')).toEqual({ record: record('a'), revision });
    expect(await store.get('b')).toBeUndefined();
    const full = await store.put(fullRecord('f'));
    expect(await store.get('f')).toEqual({ record: fullRecord('f'), revision: full });
  });

  it('puts only new records', async () => {
    const store = await make();
    await store.put(record('a'));
    expect(await store.put(record('a', 2))).toBeUndefined();
    expect((await store.get('a'))?.record.lastUsed).toBe(1);
  });

  it('updates on the current revision only', async () => {
    const store = await make();
    const first = (await store.put(record('a'))) ?? 0;
    const second = (await store.update(record('a', 2), first)) ?? 0;
    expect(second).toBeGreaterThan(first);
    expect(await store.update(record('a', 3), first)).toBeUndefined();
    expect(await store.update(record('b'), first)).toBeUndefined();
    expect(await store.update(record('b'), 0)).toBeUndefined();
    expect(await store.get('a')).toEqual({ record: record('a', 2), revision: second });
    expect(await store.get('b')).toBeUndefined();
  });

  it('deletes, on a revision if one is given', async () => {
    const store = await make();
    const first = (await store.put(record('a'))) ?? 0;
    const second = (await store.update(record('a', 2), first)) ?? 0;
    expect(await store.delete('a', first)).toBe(false);
    expect(await store.delete('a')).toBe(true);
    expect(await store.delete('a')).toBe(false);
    expect(await store.get('a')).toBeUndefined();
    expect(await store.update(record('a', 3), second)).toBeUndefined();
    const again = await store.put(record('a'));
    expect(again).toBeGreaterThan(second);
    expect(await store.update(record('a', 4), second)).toBeUndefined();
  });

  it('lists everything, and bears deleting and adding meanwhile', async () => {
    const store = await make();
    const names = Array.from({ length: 600 }, (_, index) => index.toString(16).padStart(16, '0'));
    await Promise.all(names.map((id) => store.put(record(id))));
    expect(await ids(store)).toEqual(names);
    expect(await store.count()).toBe(600);
    const seen = new Set<string>();
    for await (const entry of store.list()) {
      seen.add(entry.record.id);
      const place = Number.parseInt(entry.record.id, 16);
      // The other half changes or goes while it is walked, and some are added.
      if (place % 2 === 0) await store.delete(entry.record.id, entry.revision);
      if (place % 3 === 0) await store.put(record(`z${place}`));
    }
    for (const id of names) expect(seen).toContain(id);
    expect((await ids(store)).filter((id) => !id.startsWith('z'))).toHaveLength(300);
    for await (const entry of store.list()) await store.delete(entry.record.id, entry.revision);
    expect(await ids(store)).toEqual([]);
    expect(await store.count()).toBe(0);
  });

  it('lists what is due, by inactivity or absolutely', async () => {
    const store = await make();
    await store.put({ ...record('idle', 1000), ttl: 500 });
    await store.put({ ...record('used', 1400), ttl: 500 });
    await store.put({ ...record('ended', 1400), ttl: 500, expires: 1500 });
    await store.put({ ...record('later', 1000), ttl: 500, expires: 9000 });
    expect(await ids(store, { dueBy: 1499 })).toEqual([]);
    expect(await ids(store, { dueBy: 1500 })).toEqual(['ended', 'idle', 'later']);
    expect(await ids(store, { dueBy: 1900 })).toHaveLength(4);
    expect(await store.count()).toBe(4);
  });

  it('finds the tokens of a file by its number, and only those that die with it', async () => {
    const store = await make();
    const of = (id: string, inode: bigint, more: Partial<TokenRecord> = {}): TokenRecord => {
      const base = { ...record(id), ...more };
      return { ...base, fingerprint: { device: 1n, inode, size: 3n, mtime: 4n, ctime: 5n } };
    };
    const mine = Array.from({ length: 300 }, (_, index) => `f${index.toString().padStart(3, '0')}`);
    for (const id of mine) await store.put(of(id, -(2n ** 63n)));
    await store.put(of('other', 2n));
    await store.put(of('x', 2n ** 63n - 1n));
    await store.put(of('kept', -(2n ** 63n), { mode: 'persistent' }));
    const { fingerprint: _, ...without } = record('none');
    await store.put({ ...without, mode: 'point-in-time' });
    expect(await ids(store, { inode: -(2n ** 63n) })).toEqual(mine);
    expect(await ids(store, { inode: 2n })).toEqual(['other']);
    expect(await ids(store, { inode: 3n })).toEqual([]);
    // Found with what it has become, and no more once it is gone.
    const entry = await store.get('f007');
    await store.update(of('f007', -(2n ** 63n), { lastUsed: 9 }), entry?.revision ?? 0);
    await store.delete('f008');
    const found = new Map<string, number>();
    for await (const each of store.list({ inode: -(2n ** 63n) }))
      found.set(each.record.id, each.record.lastUsed);
    expect(found.size).toBe(299);
    expect(found.get('f007')).toBe(9);
    expect(found.has('f008')).toBe(false);
    await store.put(of('f008', 2n));
    expect(await ids(store, { inode: 2n })).toEqual(['f008', 'other']);
    expect(await ids(store, { inode: 2n, dueBy: 0 })).toEqual([]);
  });

  it('finds them among those that were bound at the same moment, whatever came and went', async () => {
    const store = await make();
    // As managers make them: ten digits of time.
    const all = ['00000000aa', '00000000ab', '00000000b0'].flatMap((moment) =>
      ['000000', '00000f', 'ffffff'].map((rest) => moment + rest),
    );
    const change = fc.record({
      id: fc.constantFrom(...all),
      inode: fc.option(fc.constantFrom(1n, 2n, 11n), { nil: undefined }),
    });
    // Inode by id; what is put where something is changes nothing, what has no inode goes.
    const model = new Map<string, bigint>();
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 12 }), async (changes) => {
        for (const { id, inode } of changes) {
          if (inode === undefined) expect(await store.delete(id)).toBe(model.delete(id));
          else {
            const put = await store.put({
              ...record(id),
              fingerprint: { device: 1n, inode, size: 3n, mtime: 4n, ctime: 5n },
            });
            expect(put === undefined).toBe(model.has(id));
            if (!model.has(id)) model.set(id, inode);
          }
        }
        for (const wanted of [1n, 2n, 11n]) {
          const mine = [...model].filter(([, inode]) => inode === wanted).map(([id]) => id);
          expect(await ids(store, { inode: wanted })).toEqual(mine.sort());
        }
      }),
      { numRuns: 15 },
    );
  });

  it('keeps its records to itself', async () => {
    const store = await make();
    const mine = record('a');
    await store.put(mine);
    mine.path = 'changed';
    const got = await store.get('a');
    if (got) got.record.revoked = true;
    expect((await store.get('a'))?.record).toEqual(record('a'));
  });

  it('counts refusals, at most 64 reasons', async () => {
    const store = await make();
    expect(await store.refusals()).toEqual({});
    for (const reason of ['forged', 'expired', 'forged']) await store.countRefusal(reason);
    expect(await store.refusals()).toEqual({ forged: 2, expired: 1 });
    for (let index = 0; index < 70; index += 1) await store.countRefusal(`r${index}`);
    expect(Object.keys(await store.refusals())).toHaveLength(64);
    expect(await store.count()).toBe(0);
    expect(await ids(store)).toEqual([]);
  });
}

function describeSharing(openTwo: OpenTwice): void {
  it('has one key of 32 bytes for all', async () => {
    const [first, second] = await openTwo();
    const key = await first.key();
    expect(key).toHaveLength(32);
    expect(await second.key()).toEqual(key);
    // Whoever changes the bytes that he got changes nobody else's.
    key.fill(0);
    expect(await first.key()).not.toEqual(key);
  });

  it('shows the changes of one to the other', async () => {
    const [first, second] = await openTwo();
    const revision = (await first.put(sampleRecord('a'))) ?? 0;
    expect(await second.get('a')).toEqual({ record: sampleRecord('a'), revision });
    expect(await second.put(sampleRecord('a', 2))).toBeUndefined();
    const next = (await second.update(sampleRecord('a', 2), revision)) ?? 0;
    expect(await first.get('a')).toEqual({ record: sampleRecord('a', 2), revision: next });
    expect(await first.update(sampleRecord('a', 3), revision)).toBeUndefined();
    expect(await first.delete('a', next)).toBe(true);
    expect(await second.get('a')).toBeUndefined();
    expect(await second.update(sampleRecord('a', 4), next)).toBeUndefined();
    await first.countRefusal('forged');
    await second.countRefusal('forged');
    expect(await first.refusals()).toEqual({ forged: 2 });
  });
}

function describeRaces(openTwo: OpenTwice): void {
  const won = (results: readonly unknown[]) =>
    results.filter((result) => result !== undefined && result !== false);

  it('one of many concurrent puts of one id wins', async () => {
    const stores = await openTwo();
    const puts = await Promise.all(
      [1, 2, 3, 4, 5, 6].map((used) => stores[used % 2 === 0 ? 0 : 1].put(sampleRecord('a', used))),
    );
    expect(won(puts)).toHaveLength(1);
    const winner = puts.findIndex((result) => result !== undefined) + 1;
    expect((await stores[0].get('a'))?.record.lastUsed).toBe(winner);
  });

  it('of updates, revocations and deletions on one revision one wins, and its record stays', async () => {
    const [first, second] = await openTwo();
    for (let round = 0; round < 20; round += 1) {
      const id = `r${round}`;
      const revision = (await first.put(sampleRecord(id))) ?? 0;
      const used = second.update(sampleRecord(id, 2), revision);
      const revoked = first.update({ ...sampleRecord(id), revoked: true }, revision);
      const expired = second.delete(id, revision);
      const results = await Promise.all(
        round % 2 === 0 ? [used, revoked, expired] : [expired, revoked, used],
      );
      expect(won(results)).toHaveLength(1);
      const left = (await first.get(id))?.record;
      if (await expired) expect(left).toBeUndefined();
      else if (await revoked) expect(left?.revoked).toBe(true);
      else expect(left).toEqual(sampleRecord(id, 2));
    }
  });

  it('a revocation without a revision holds against whoever uses the token meanwhile', async () => {
    const [first, second] = await openTwo();
    let revision = (await first.put(sampleRecord('a'))) ?? 0;
    const deletion = first.delete('a');
    let updates = 0;
    for (let used = 2; used < 200; used += 1) {
      const next = await second.update(sampleRecord('a', used), revision);
      if (next === undefined) break;
      revision = next;
      updates += 1;
    }
    expect(await deletion).toBe(true);
    expect(updates).toBeLessThan(198);
    expect(await second.get('a')).toBeUndefined();
    expect(await second.update(sampleRecord('a', 999), revision)).toBeUndefined();
  });

  it('loses no update of those who look and try again', async () => {
    const stores = await openTwo();
    await stores[0].put(sampleRecord('a', 0));
    const add = async (store: TokenStore) => {
      for (let done = 0; done < 25; ) {
        const entry = await store.get('a');
        if (!entry) throw new Error('the record is gone');
        const next = { ...entry.record, lastUsed: entry.record.lastUsed + 1 };
        if ((await store.update(next, entry.revision)) !== undefined) done += 1;
      }
    };
    await Promise.all([add(stores[0]), add(stores[1]), add(stores[0]), add(stores[1])]);
    expect((await stores[1].get('a'))?.record.lastUsed).toBe(100);
  });
}
