/** Tokens when vhdkit itself changes their file: what is not touched lives on, in every other case they are void. */
import { readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import type { RandomAccessFile } from '../../../src/io/random-access-file.js';
import { CopyAndWriter } from '../../../src/offload/copy-and-write.js';
import { OwnChanges } from '../../../src/offload/own-changes.js';
import { MemoryTokenStore } from '../../../src/offload/store/memory-store.js';
import { openTokenStore } from '../../../src/offload/store/open.js';
import type { TokenStore } from '../../../src/offload/store/token-store.js';
import type { Token } from '../../../src/offload/token.js';
import type { TokenManager } from '../../../src/offload/token-manager.js';
import { compact } from '../../../src/operations/compact.js';
import { create } from '../../../src/operations/create.js';
import { createChild } from '../../../src/operations/create-child.js';
import { systemHost } from '../../../src/operations/host.js';
import { merge } from '../../../src/operations/merge.js';
import { resize } from '../../../src/operations/resize.js';
import { createSnapshot } from '../../../src/operations/snapshot/create.js';
import { restoreSnapshot } from '../../../src/operations/snapshot/restore.js';
import { readToken } from '../../../src/operations/token/read.js';
import { openTokens } from '../../../src/operations/token/store.js';
import { readTokenSet } from '../../../src/operations/token/token-file.js';
import { writeToken } from '../../../src/operations/token/write.js';
import { write } from '../../../src/operations/write.js';
import { overriding } from '../../support/overriding.js';
import { seededBytes } from '../../support/sample-disk.js';
import { makeTempFolder } from '../../support/tmp.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const host = systemHost();
let folder: string;
let store: TokenStore;
const at = (name: string): string => path.join(folder, name);

beforeEach(() => {
  folder = makeTempFolder('own-changes');
  store = new MemoryTokenStore();
  vi.stubEnv('XDG_STATE_HOME', at('state'));
  return () => vi.unstubAllEnvs();
});

/** A manager of its own, as another process would have it. */
async function manager(of: TokenStore = store): Promise<TokenManager> {
  const tokens = await openTokens(host, of);
  onTestFinished(() => tokens.close());
  return tokens.manager;
}

async function open(name: string, writable = false): Promise<RandomAccessFile> {
  const file = await nodeFileSystem.open(at(name), { writable });
  onTestFinished(() => file.close().catch(() => undefined));
  return file;
}

/** Tokens for the four quarters of a file. */
async function quarters(by: TokenManager, name: string): Promise<Token[]> {
  const file = await open(name);
  const quarter = file.size() / 4;
  const ranges = [0, 1, 2, 3].map((index) => ({ offset: index * quarter, length: quarter }));
  const bound = await by.bindAll(file, ranges, { mode: 'change-vulnerable', ttl: 60_000, path: at(name) });
  return bound.map(({ token }) => token);
}

/** Which of them can be used, by a manager that has not seen them and by one that has. */
async function alive(tokens: readonly Token[], ...by: TokenManager[]): Promise<string> {
  const states: string[] = [];
  for (const each of [await manager(), ...by]) {
    const marks: string[] = [];
    for (const token of tokens)
      marks.push(
        await each.resolve(token).then(
          () => 'x',
          (error: { code: string }) => (error.code === 'SOURCE_CHANGED' ? '-' : error.code),
        ),
      );
    states.push(marks.join(''));
  }
  expect(new Set(states).size, states.join(' ')).toBe(1);
  return states[0] ?? '';
}

const openedStore = async () => ({ store, close: async () => undefined });

async function changes(name: string): Promise<OwnChanges> {
  const file = await open(name, true);
  return new OwnChanges(file, { system: undefined, openStore: openedStore });
}

describe('changes through a watched file', () => {
  beforeEach(() => writeFileSync(at('a.img'), seededBytes(MiB, 1)));

  it.each<[string, (file: RandomAccessFile) => Promise<unknown>, string]>([
    ['a byte', (file) => file.write(Buffer.of(1), 300 * KiB), 'x-xx'],
    ['across an edge', (file) => file.write(Buffer.alloc(2), 512 * KiB - 1), 'x--x'],
    ['up to an edge', (file) => file.write(Buffer.alloc(256 * KiB), 256 * KiB), 'x-xx'],
    ['zeros', (file) => file.zero(0, 64 * KiB), '-xxx'],
    ['a hole', async (file) => file.punch?.(768 * KiB, 4096), 'xxx-'],
    ['a longer file', (file) => file.truncate(2 * MiB), 'xxxx'],
    ['a shorter file', (file) => file.truncate(600 * KiB), 'xx--'],
    ['storage for what is behind', async (file) => file.allocate?.(0, 2 * MiB), 'xxxx'],
    ['nothing', async () => undefined, 'xxxx'],
  ])('%s', async (_, change, expected) => {
    const binder = await manager();
    const tokens = await quarters(binder, 'a.img');
    const own = await changes('a.img');
    await change(own.file);
    await own.file.close();
    expect(await alive(tokens, binder)).toBe(expected);
    // And again: what has its new fingerprint is as good as before.
    const again = await changes('a.img');
    await again.file.write(Buffer.alloc(1), 0);
    await again.file.close();
    expect(await alive(tokens, binder)).toBe(`-${expected.slice(1)}`);
  });

  it('through the descriptor count when they are announced, by whichever provider', async () => {
    const tokens = await quarters(await manager(), 'a.img');
    const own = await changes('a.img');
    writeFileSync(at('b.img'), seededBytes(64 * KiB, 2));
    const source = await open('b.img');
    const target = { file: own.file, fileOffset: 256 * KiB };
    const copier = new CopyAndWriter(host);
    await copier.copy({ file: source, fileOffset: 0 }, target, 64 * KiB);
    expect(copier.tally.throughProcess).toBe(0);
    await own.file.write(Buffer.alloc(1), 0);
    await own.file.close();
    expect(await alive(tokens)).toBe('--xx');
  });

  it('count also when nobody waits for them', async () => {
    const tokens = await quarters(await manager(), 'a.img');
    const own = await changes('a.img');
    expect(own.file.writeHere?.(Buffer.alloc(1), 256 * KiB)).toBe(true);
    own.file.poke?.(Buffer.alloc(1), 512 * KiB);
    await own.file.close();
    expect(await alive(tokens)).toBe('x--x');
  });

  it("somebody else's change beside them ends all", async () => {
    for (const when of ['before', 'between', 'after']) {
      const tokens = await quarters(await manager(), 'a.img');
      const foreign = (): void => utimesSync(at('a.img'), 1, Number(`1${when.length}`));
      if (when === 'before') foreign();
      const own = await changes('a.img');
      await own.file.write(Buffer.alloc(1), 0);
      if (when === 'between') foreign();
      await own.file.write(Buffer.alloc(1), 1);
      await own.file.close();
      if (when === 'after') foreign();
      expect(await alive(tokens), when).toBe('----');
    }
  });

  it('a change that the file’s clock does not show ends what it touches nevertheless', async () => {
    const tokens = await quarters(await manager(), 'a.img');
    const file = await open('a.img', true);
    const print = file.fingerprint();
    // A file system whose times are too coarse to tell.
    const coarse = overriding(file, { fingerprint: () => print });
    const own = new OwnChanges(coarse, { system: undefined, openStore: openedStore });
    await own.file.write(Buffer.alloc(1), 0);
    expect(await own.settle(store)).toEqual({ kept: 3, ended: 1 });
    const states: (bigint | undefined)[] = [];
    for await (const { record } of store.list()) states.push(record.fingerprint?.ctime);
    expect(states.filter((ctime) => ctime === -1n)).toHaveLength(1);
    expect(tokens).toHaveLength(4);
  });

  it.each([0, 1, 2])('a crash after %i of the records leaves the others void', async (until) => {
    const tokens = await quarters(await manager(), 'a.img');
    let updates = 0;
    const failing = new Proxy(store, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (key === 'update') {
          return async (...args: Parameters<TokenStore['update']>) => {
            if (updates === until) throw new Error('killed');
            updates += 1;
            return target.update(...args);
          };
        }
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const file = await open('a.img', true);
    const own = new OwnChanges(file, {
      system: undefined,
      openStore: async () => ({ store: failing, close: async () => undefined }),
    });
    await own.file.write(Buffer.alloc(1), MiB - 1);
    // The write itself has succeeded, whatever became of the tokens.
    await own.file.close();
    const states = await alive(tokens);
    expect(states.slice(3)).toBe('-');
    expect([...states].filter((state) => state === 'x').length).toBe(Math.min(until, 3));
  });

  it('what others did to a token meanwhile counts for whoever takes over its new fingerprint', async () => {
    let now = 1_000_000;
    const later = await openTokens({ ...host, clock: { now: () => now } }, store);
    onTestFinished(() => later.close());
    const [, second, third] = await quarters(later.manager, 'a.img');
    const own = await changes('a.img');
    await own.file.write(Buffer.alloc(1), 0);
    await own.file.close();
    const ids: string[] = [];
    for await (const { record } of store.list()) ids.push(record.id);
    const others = await manager();
    await others.revokeById(ids[1] ?? '', 'remember');
    if (!second || !third) throw new Error('four were bound');
    await expect(later.manager.resolve(second)).rejects.toMatchObject({ code: 'TOKEN_INVALID' });
    // Nor does telling the store of a use revive it.
    now += 30_000;
    await later.manager.resolve(third);
    await later.manager.resolve(second).catch(() => undefined);
    expect((await store.get(ids[1] ?? ''))?.record.revoked).toBe(true);
  });

  it('a use that is told to the store meanwhile is not lost, and a revocation not undone', async () => {
    const tokens = await quarters(await manager(), 'a.img');
    const own = await changes('a.img');
    await own.file.write(Buffer.alloc(1), MiB - 1);
    const ids: string[] = [];
    for await (const { record } of store.list()) ids.push(record.id);
    const raced = new Set<string>();
    const racing = new Proxy(store, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (key === 'update') {
          return async (...args: Parameters<TokenStore['update']>) => {
            const [record] = args;
            const entry = raced.has(record.id) ? undefined : await target.get(record.id);
            raced.add(record.id);
            const change = record.id === ids[0] ? { revoked: true } : { lastUsed: 77 };
            if (entry) await target.update({ ...entry.record, ...change }, entry.revision);
            return target.update(...args);
          };
        }
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    await own.settle(racing);
    expect((await store.get(ids[0] ?? ''))?.record.revoked).toBe(true);
    for (const id of ids.slice(1, 3)) expect((await store.get(id))?.record.lastUsed).toBe(77);
    expect(tokens).toHaveLength(4);
  });
});

describe('operations', () => {
  const data = seededBytes(2 * MiB, 4);
  const input = (bytes: Uint8Array) => ({
    async *[Symbol.asyncIterator]() {
      yield bytes;
    },
  });

  /** Reads a token for a range of an image; tells whether it can be used now. */
  async function token(name: string, offset: number, length: number): Promise<() => Promise<string>> {
    const output = at(`${name}-${offset}.tok`);
    await readToken(host, { path: at(name), output, offset, length });
    return async () => {
      const ranges = (await readTokenSet(host, output)).ranges;
      const own = await openTokenStore();
      try {
        const states: string[] = [];
        for (const range of ranges) states.push(await alivePart(own, range.token));
        return [...new Set(states)].join(' ');
      } finally {
        await own.close();
      }
    };
  }

  async function alivePart(own: TokenStore, part: Token): Promise<string> {
    const tokens = await openTokens(host, own);
    try {
      return await tokens.manager.resolve(part).then(
        () => 'alive',
        (error: { code: string }) => error.code,
      );
    } finally {
      await tokens.close();
    }
  }

  it('write: tokens of other ranges live on, of a raw disk and of a VHDX', async () => {
    writeFileSync(at('a.img'), data);
    await create(host, { path: at('a.vhdx'), size: 64 * MiB, blockSize: MiB });
    await write(host, { path: at('a.vhdx'), input: input(data) });
    for (const name of ['a.img', 'a.vhdx']) {
      const [touched, other] = [await token(name, 0, 64 * KiB), await token(name, MiB, 64 * KiB)];
      await write(host, { path: at(name), offset: 4096, input: input(Buffer.alloc(512)) });
      expect(await touched(), name).toBe('SOURCE_CHANGED');
      expect(await other(), name).toBe('alive');
    }
    // A new block: the table and the log change, payload that is there does not.
    const other = await token('a.vhdx', MiB + 64 * KiB, 128 * KiB);
    await write(host, { path: at('a.vhdx'), offset: 32 * MiB, input: input(data) });
    expect(await other()).toBe('alive');
  });

  it('write: no store is made for it', async () => {
    writeFileSync(at('a.img'), data);
    await write(host, { path: at('a.img'), input: input(Buffer.alloc(512)) });
    expect(() => statSync(at('state'))).toThrow(/ENOENT/);
    // Nor does a broken one keep it from writing.
    await token('a.img', 0, 512);
    truncateSync(at('state/vhdkit/tokens/data.mdb'), 100);
    await write(host, { path: at('a.img'), input: input(Buffer.alloc(512, 1)) });
    expect(readFileSync(at('a.img'))[511]).toBe(1);
  });

  it('token write: tokens of what it does not write to live on', async () => {
    writeFileSync(at('a.img'), data);
    writeFileSync(at('b.img'), data);
    const [touched, other] = [await token('b.img', 0, 64 * KiB), await token('b.img', MiB, 64 * KiB)];
    await token('a.img', 0, 4096);
    await writeToken(host, { tokens: at('a.img-0.tok'), target: at('b.img'), offset: 8192 });
    expect(await touched()).toBe('SOURCE_CHANGED');
    expect(await other()).toBe('alive');
  });

  it('resize, compact: what stays where it is lives on', async () => {
    writeFileSync(at('a.img'), data);
    await create(host, { path: at('a.vhdx'), size: 64 * MiB, blockSize: MiB });
    await write(host, { path: at('a.vhdx'), input: input(Buffer.concat([data, Buffer.alloc(MiB)])) });
    const [cut, raw] = [await token('a.img', 1920 * KiB, 64 * KiB), await token('a.img', 0, 64 * KiB)];
    const [zeros, kept] = [await token('a.vhdx', 2 * MiB, 64 * KiB), await token('a.vhdx', MiB, 64 * KiB)];
    await resize(host, { path: at('a.img'), size: { to: MiB }, shrink: true });
    await resize(host, { path: at('a.vhdx'), size: { to: 128 * MiB } });
    expect([await cut(), await raw()]).toEqual(['SOURCE_CHANGED', 'alive']);
    expect([await zeros(), await kept()]).toEqual(['alive', 'alive']);
    await compact(host, { path: at('a.vhdx') });
    expect([await zeros(), await kept()]).toEqual(['SOURCE_CHANGED', 'alive']);
  });

  it('merge: the parent’s other blocks live on', async () => {
    await create(host, { path: at('p.vhdx'), size: 16 * MiB, blockSize: MiB });
    await write(host, { path: at('p.vhdx'), input: input(data) });
    await createChild(host, { path: at('c.vhdx'), parent: at('p.vhdx'), type: 'differencing' });
    await write(host, { path: at('c.vhdx'), input: input(seededBytes(64 * KiB, 5)) });
    const [touched, other] = [await token('p.vhdx', 0, 64 * KiB), await token('p.vhdx', MiB, 64 * KiB)];
    await merge(host, { child: at('c.vhdx') });
    expect([await touched(), await other()]).toEqual(['SOURCE_CHANGED', 'alive']);
  });

  it('snapshot restore: chunks that are as they were live on', async () => {
    writeFileSync(at('a.img'), data);
    await createSnapshot(host, { path: at('a.img'), name: 'one' });
    await write(host, { path: at('a.img'), input: input(Buffer.alloc(512)) });
    const [touched, other] = [await token('a.img', 0, 64 * KiB), await token('a.img', MiB, 64 * KiB)];
    await restoreSnapshot(host, { path: at('a.img'), name: 'one' });
    expect([await touched(), await other()]).toEqual(['SOURCE_CHANGED', 'alive']);
    expect(readFileSync(at('a.img')).equals(data)).toBe(true);
  });
});
