/** The LMDB token store: conformance, and its index. What other processes and a broken folder do to it is beside this file. */
import { open as openLmdb } from 'lmdb';
import { describe, expect, it } from 'vitest';
import { openLmdbStore } from '../../../../src/offload/store/lmdb-store.js';
import { describeTokenStore, sampleRecord } from '../../../conformance/token-store.suite.js';
import { testFolder } from '../../../support/tmp.js';

describeTokenStore('LMDB', async () => {
  const folder = testFolder('lmdb');
  return Promise.all([openLmdbStore(folder), openLmdbStore(folder)]);
});

/** How many keys there are in every part of a closed store. */
async function sizes(folder: string): Promise<Record<string, number>> {
  const root = openLmdb({ path: folder, noSubdir: false, encoding: 'binary', cache: false, maxDbs: 8 });
  const names = ['tokens', 'moments', 'live', 'ended', 'kept'];
  const count = (name: string) => root.openDB({ name, encoding: 'binary', cache: false }).getKeysCount();
  const found = Object.fromEntries(names.map((name) => [name, count(name)]));
  await root.close();
  return found;
}

describe('the files of an LMDB token store', () => {
  it('take two entries for all tokens of a file at a moment, and none once they went', async () => {
    const folder = testFolder('lmdb');
    const inodes = [1n, 2n, 3n];
    const ids = inodes.flatMap((inode) =>
      Array.from({ length: 20 }, (_, index) => ({ inode, id: `0123456789${inode}${10 + index}00` })),
    );
    const first = await openLmdbStore(folder);
    for (const { id, inode } of ids) {
      const fingerprint = { device: 1n, inode, size: 3n, mtime: 4n, ctime: 5n };
      await first.put({ ...sampleRecord(id), fingerprint });
    }
    await first.close();
    expect(await sizes(folder)).toMatchObject({ tokens: ids.length, moments: 2 * inodes.length });
    const second = await openLmdbStore(folder);
    await second.setLimits({ tokens: 1000 });
    for (const { id } of ids) expect(await second.delete(id)).toBe(true);
    await second.close();
    expect(await sizes(folder)).toEqual({ tokens: 0, moments: 0, live: 0, ended: 0, kept: 0 });
  });
});
