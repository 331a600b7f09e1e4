/** The suite every token store passes. */
import { describe, expect, it } from 'vitest';
import type { TokenRecord, TokenStore } from '../../src/offload/store/token-store.js';

function record(id: string, lastUsed = 1): TokenRecord {
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
    fingerprint: { device: 1n, inode: 2n ** 63n, size: 3n, mtime: 1_700_000_000_123_456_789n, ctime: 5n },
  };
}

async function ids(store: TokenStore): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of store.list()) found.push(entry.record.id);
  return found.sort();
}

export function describeTokenStore(name: string, make: () => Promise<TokenStore>): void {
  describe(`token store: ${name}`, () => {
    it('gives back what was put, exactly', async () => {
      const store = await make();
      const revision = await store.put(record('a'));
      expect(await store.get('a')).toEqual({ record: record('a'), revision });
      expect(await store.get('b')).toBeUndefined();
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
      expect(await store.get('a')).toEqual({ record: record('a', 2), revision: second });
    });

    it('one of two concurrent updates wins', async () => {
      const store = await make();
      const revision = (await store.put(record('a'))) ?? 0;
      const updates = await Promise.all([2, 3].map((used) => store.update(record('a', used), revision)));
      expect(updates.filter((result) => result === undefined)).toHaveLength(1);
    });

    it('deletes, on a revision if one is given', async () => {
      const store = await make();
      const first = (await store.put(record('a'))) ?? 0;
      await store.update(record('a', 2), first);
      expect(await store.delete('a', first)).toBe(false);
      expect(await store.delete('a')).toBe(true);
      expect(await store.delete('a')).toBe(false);
      expect(await store.get('a')).toBeUndefined();
      const again = await store.put(record('a'));
      expect(again).toBeGreaterThan(first);
    });

    it('lists everything, and bears deleting meanwhile', async () => {
      const store = await make();
      for (const id of ['a', 'b', 'c']) await store.put(record(id));
      expect(await ids(store)).toEqual(['a', 'b', 'c']);
      for await (const entry of store.list()) await store.delete(entry.record.id, entry.revision);
      expect(await ids(store)).toEqual([]);
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
  });
}
