/** LMDB token stores in folders that are read-only, full, damaged, not ours, or from another time. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { open as openLmdb } from 'lmdb';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openLmdbStore } from '../../../../src/offload/store/lmdb-store.js';
import { defaultTokenFolder, openTokenStore } from '../../../../src/offload/store/open.js';
import { sampleRecord } from '../../../conformance/token-store.suite.js';
import { mountNew } from '../../../support/mounts.js';
import { canMount } from '../../../support/requires.js';
import { mustSync } from '../../../support/run.js';
import { testFolder } from '../../../support/tmp.js';

function refusal(reason: string, code = 'TOKEN_STORE_FAILED') {
  return { code, context: expect.objectContaining({ reason }), hint: expect.any(String) };
}

/** A store with records, closed. */
async function filled(folder: string, count = 200): Promise<string> {
  const store = await openLmdbStore(folder);
  for (let index = 0; index < count; index += 1) await store.put(sampleRecord(`t${index}`));
  await store.close();
  return path.join(folder, 'data.mdb');
}

/** What LMDB has under a key beside the tokens, replaced. */
async function setEntry(folder: string, key: string, value: string, name?: string): Promise<void> {
  const root = openLmdb({ path: folder, noSubdir: false, encoding: 'binary', cache: false, maxDbs: 4 });
  const db = name ? root.openDB({ name, encoding: 'binary', cache: false }) : root;
  db.putSync(key, Buffer.from(value, 'latin1'));
  await root.close();
}

describe('an LMDB token store', () => {
  it('keeps folder and files to its owner', async () => {
    const folder = path.join(testFolder('lmdb'), 'deep', 'store');
    await filled(folder, 1);
    const mode = (name: string) => statSync(path.join(folder, name)).mode & 0o777;
    expect(mode('.')).toBe(0o700);
    const names = ['data.mdb', 'lock.mdb', 'turns.lock'];
    expect(readdirSync(folder).sort()).toEqual(names);
    expect(names.map(mode)).toEqual(names.map(() => 0o600));
    chmodSync(folder, 0o777);
    await expect(openLmdbStore(folder)).rejects.toMatchObject(refusal('not-private', 'PERMISSION_DENIED'));
  });

  it('keeps records and key until it is opened again', async () => {
    const folder = testFolder('lmdb');
    const store = await openLmdbStore(folder);
    const key = await store.key();
    const revision = await store.put(sampleRecord('a'));
    await store.close();
    await store.close();
    await expect(store.get('a')).rejects.toMatchObject(refusal('closed'));
    const again = await openLmdbStore(folder);
    onTestFinished(() => again.close());
    expect(await again.key()).toEqual(key);
    expect(await again.get('a')).toEqual({ record: sampleRecord('a'), revision });
  });

  it.each([
    [
      'overwritten from the start',
      (file: string) => writeFileSync(file, 'not a database at all'.repeat(999)),
    ],
    ['cut within its pages', (file: string) => truncateSync(file, 5 * 4096)],
    ['cut to a few bytes', (file: string) => truncateSync(file, 100)],
    ['with one meta page lost', (file: string) => spoil(file, 4096, 200)],
  ])('says that its data file is damaged: %s', async (_, damage) => {
    const folder = testFolder('lmdb');
    damage(await filled(folder));
    await expect(openLmdbStore(folder)).rejects.toMatchObject(refusal('damaged'));
  });

  it('says which record is damaged, or newer than this program', async () => {
    const folder = testFolder('lmdb');
    await filled(folder, 3);
    await setEntry(folder, 't0', '\0\0\0\0\0\0\0\u0001\u0002\u0002{"path":"a"}', 'tokens');
    await setEntry(folder, 't1', '\0\0\0\0\0\0\0\u0002\u0003{}', 'tokens');
    await setEntry(folder, 't2', 'short', 'tokens');
    const store = await openLmdbStore(folder);
    onTestFinished(() => store.close());
    await expect(store.get('t0')).rejects.toMatchObject(refusal('damaged'));
    await expect(store.get('t1')).rejects.toMatchObject(refusal('newer-version'));
    await expect(store.get('t2')).rejects.toMatchObject(refusal('damaged'));
    // What can't be read can be removed.
    expect(await store.delete('t0')).toBe(true);
    expect(await store.get('t0')).toBeUndefined();
  });

  it.each([
    ['newer-version', JSON.stringify({ format: 'vhdkit token store', version: 2, key: 'AA==' })],
    ['not-a-store', JSON.stringify({ format: 'recipes' })],
    ['damaged', JSON.stringify({ format: 'vhdkit token store', version: 1, key: 'AA==' })],
    ['damaged', '{'],
  ])('with another header is refused as %s', async (reason, header) => {
    const folder = testFolder('lmdb');
    await filled(folder, 1);
    await setEntry(folder, 'store', header);
    await expect(openLmdbStore(folder)).rejects.toMatchObject(refusal(reason));
  });

  it('takes no more than its number of records', async () => {
    const store = await openLmdbStore(testFolder('lmdb'), { maxRecords: 3 });
    onTestFinished(() => store.close());
    for (const id of ['a', 'b', 'c']) await store.put(sampleRecord(id));
    await expect(store.put(sampleRecord('d'))).rejects.toMatchObject(refusal('full', 'NO_SPACE'));
    expect(await store.put(sampleRecord('a'))).toBeUndefined();
    expect(await store.delete('b')).toBe(true);
    expect(await store.put(sampleRecord('d'))).toBeGreaterThan(0);
  });

  it('begins anew when the system stopped while it was in use, and only then', async () => {
    const folder = testFolder('lmdb');
    const before = await openLmdbStore(folder, { boot: 'first' });
    const key = await before.key();
    await before.put(sampleRecord('a'));
    expect(readdirSync(folder).filter((name) => name.startsWith('unsynced'))).toHaveLength(1);
    await before.close();
    // Closed, so all was flushed: the next start of the system finds it whole.
    const next = await openLmdbStore(folder, { boot: 'second' });
    expect(await next.key()).toEqual(key);
    expect(await next.get('a')).toBeDefined();
    await next.close();
    // In use when the system stopped: what is in the file may be anything.
    writeFileSync(path.join(folder, 'unsynced.1.1'), 'second');
    spoil(path.join(folder, 'data.mdb'), 0, 8192);
    const fresh = await Promise.all([1, 2].map(() => openLmdbStore(folder, { boot: 'third' })));
    expect(await fresh[0]?.get('a')).toBeUndefined();
    expect(await fresh[0]?.key()).not.toEqual(key);
    expect(await fresh[1]?.key()).toEqual(await fresh[0]?.key());
    for (const store of fresh) await store.close();
    expect(existsSync(path.join(folder, 'unsynced.1.1'))).toBe(false);
  });

  it('flushes every change where starts of the system are not told apart', async () => {
    const folder = testFolder('lmdb');
    const store = await openLmdbStore(folder, { boot: undefined });
    onTestFinished(() => store.close());
    expect(await store.put(sampleRecord('a'))).toBeGreaterThan(0);
    expect(readdirSync(folder).sort()).toEqual(['data.mdb', 'lock.mdb', 'turns.lock']);
  });

  it('needs its package, and says so', async () => {
    const load = () => Promise.reject(new Error("Cannot find package 'lmdb'"));
    const folder = testFolder('lmdb');
    await expect(openLmdbStore(folder, { load })).rejects.toMatchObject(
      refusal('package-missing', 'UNSUPPORTED'),
    );
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe.skipIf(!canMount('tmpfs'))('an LMDB token store on a file system (needs root)', () => {
  it('that is read-only', async () => {
    const mount = mountNew('tmpfs', 8);
    onTestFinished(() => mount.unmount());
    await filled(path.join(mount.path, 'store'), 3);
    mustSync('mount', ['-o', 'remount,ro', mount.path]);
    for (const name of ['store', 'new'])
      await expect(openLmdbStore(path.join(mount.path, name))).rejects.toMatchObject(
        refusal('read-only', 'PERMISSION_DENIED'),
      );
  });

  it('that is full: says so, keeps what it has, and can be used when there is room', async () => {
    const mount = mountNew('tmpfs', 2);
    onTestFinished(() => mount.unmount());
    const folder = path.join(mount.path, 'store');
    const store = await openLmdbStore(folder);
    onTestFinished(() => store.close());
    const put: string[] = [];
    const fill = async () => {
      for (let index = 0; index < 20_000; index += 1) {
        const id = `t${index}`;
        await store.put(sampleRecord(id));
        put.push(id);
      }
    };
    await expect(fill()).rejects.toMatchObject(refusal('full', 'NO_SPACE'));
    expect(put.length).toBeGreaterThan(100);
    expect(await store.count()).toBe(put.length);
    for (const id of put.slice(0, 50)) expect((await store.get(id))?.record.id).toBe(id);
    const other = path.join(mount.path, 'other');
    mkdirSync(other);
    await expect(openLmdbStore(other)).rejects.toMatchObject(refusal('full', 'NO_SPACE'));
    mustSync('mount', ['-o', 'remount,size=8m', mount.path]);
    expect(await store.put(sampleRecord('again'))).toBeGreaterThan(0);
    expect((await store.get(put.at(-1) ?? ''))?.record.id).toBe(put.at(-1));
  });
});

describe('where token stores are', () => {
  it('is a folder of the user, a path, or a file: URL', async () => {
    const folder = testFolder('places');
    const before = process.env.XDG_STATE_HOME;
    onTestFinished(() => {
      if (before === undefined) delete process.env.XDG_STATE_HOME;
      else process.env.XDG_STATE_HOME = before;
    });
    process.env.XDG_STATE_HOME = folder;
    expect(defaultTokenFolder()).toBe(path.join(folder, 'vhdkit', 'tokens'));
    const store = await openTokenStore();
    onTestFinished(() => store.close());
    expect(await store.put(sampleRecord('a'))).toBeGreaterThan(0);
    for (const location of [
      `file://${defaultTokenFolder()}`,
      `file:${defaultTokenFolder()}`,
      defaultTokenFolder(),
    ]) {
      const same = await openTokenStore(location);
      expect(await same.get('a')).toBeDefined();
      await same.close();
    }
  });

  it.each(['redis://host', 'nats://', 'nats://host/a.b', 'nats://host/a/b', '', 'file:'])(
    'is not %j',
    async (location) => {
      await expect(openTokenStore(location)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    },
  );

  it('is not below a file', async () => {
    const file = path.join(testFolder('places'), 'file');
    writeFileSync(file, 'x');
    for (const location of [file, path.join(file, 'store')])
      await expect(openTokenStore(location)).rejects.toMatchObject(refusal('not-a-store'));
    expect(readFileSync(file, 'utf8')).toBe('x');
  });
});

function spoil(file: string, from: number, length: number): void {
  const bytes = readFileSync(file);
  bytes.fill(0xa5, from, from + length);
  writeFileSync(file, bytes);
}
