/** Tokens that one manager binds and another uses: two processes over one store. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { VhdkitError } from '../../../src/base/errors.js';
import { systemRandom } from '../../../src/base/random.js';
import type { DataKeeper } from '../../../src/io/data-keeper.js';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import type { FileFingerprint, RandomAccessFile } from '../../../src/io/random-access-file.js';
import { PersistentData } from '../../../src/offload/persistent-data.js';
import { MemoryTokenStore } from '../../../src/offload/store/memory-store.js';
import type { StoredToken } from '../../../src/offload/store/token-store.js';
import { Token } from '../../../src/offload/token.js';
import { TokenManager, type TokenManagerOptions } from '../../../src/offload/token-manager.js';
import { readThroughToken } from '../../../src/offload/token-reader.js';
import { TokenSources } from '../../../src/offload/token-sources.js';
import { makeTempFolder } from '../../support/tmp.js';

let now = 0;
let store: MemoryTokenStore;
let folder: string;
const clock = { now: () => now };
const at = (name: string): string => path.join(folder, name);
const vulnerable = { mode: 'change-vulnerable', ttl: 1000 } as const;
const persistent = { mode: 'persistent', ttl: 1000 } as const;
const whole = { offset: 0, length: 4096 };

/** Keeps copies; what it does can be made to fail, as if the process had ended there. */
class CopyingKeeper implements DataKeeper {
  died = '';
  placeFor(source: string, name: string): string {
    return path.join(path.dirname(source), `kept-${name}`);
  }
  async keep(file: RandomAccessFile, place: string) {
    if (existsSync(place)) throw new VhdkitError('ALREADY_EXISTS', `${place} is there`);
    writeFileSync(place, readFileSync(file.path));
    this.#live('keep');
    const copy = await nodeFileSystem.open(place);
    const fingerprint = copy.fingerprint();
    await copy.close();
    if (!fingerprint) throw new Error('no fingerprint');
    return { fingerprint, bytes: 4096 };
  }
  async share(from: string, to: string): Promise<void> {
    const { linkSync } = await import('node:fs');
    linkSync(from, to);
    this.#live('share');
  }
  async release(place: string): Promise<void> {
    const { rmSync } = await import('node:fs');
    this.#live('release');
    rmSync(place, { force: true });
  }
  /** A dead process does not clean up either. */
  #live(step: string): void {
    if (this.died === step) this.died = 'release';
    else return;
    throw new Error('died');
  }
}

let keeper: CopyingKeeper;

async function process(
  open = (name: string) => nodeFileSystem.open(name),
  more: Partial<TokenManagerOptions> = {},
): Promise<TokenManager> {
  const sources = new TokenSources(open);
  const data = new PersistentData(store, keeper);
  return new TokenManager({
    clock,
    random: systemRandom,
    store,
    key: await store.key(),
    sources,
    persistent: data,
    ...more,
  });
}

const copy = (token: Token): Token => new Token(token.toBytes());
const stored = async (): Promise<StoredToken | undefined> => (await store.list().next()).value ?? undefined;
const kept = (): string[] => readdirSync(folder).filter((name) => name.startsWith('kept-'));

async function bytesOf(manager: TokenManager, token: Token): Promise<string> {
  const buffer = new Uint8Array(4);
  await readThroughToken(manager, token, buffer, 0);
  return Buffer.from(buffer).toString();
}

let file: RandomAccessFile;
beforeEach(async () => {
  now = 1e12;
  store = new MemoryTokenStore();
  keeper = new CopyingKeeper();
  folder = makeTempFolder('sharing');
  writeFileSync(at('a.img'), Buffer.alloc(4096, 'a'));
  file = await nodeFileSystem.open(at('a.img'));
  return () => file.close();
});

describe('a token of another process', () => {
  it('is taken up, and every flipped bit of it is refused', async () => {
    const { token } = await (await process()).bind(file, whole, vulnerable);
    const other = await process();
    expect(await bytesOf(other, copy(token))).toBe('aaaa');
    const bytes = token.toBytes();
    for (let bit = 0; bit < 4096; bit += 1) {
      const flipped = Uint8Array.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      await expect(other.resolve(new Token(flipped)), `bit ${bit}`).rejects.toMatchObject({
        code: 'TOKEN_INVALID',
      });
    }
    const { forged = 0, foreign = 0, malformed = 0 } = await store.refusals();
    expect(forged + foreign + malformed).toBe(4096);
    // The creator has 64 bits; a type or a length that is none is no token.
    expect(foreign).toBe(64);
    expect(malformed).toBeGreaterThan(0);
  });

  it('is known to be used: nothing is written for what was bound just now, and the use is for what was not', async () => {
    const { token } = await (await process()).bind(file, whole, vulnerable);
    const bound = await stored();
    now += vulnerable.ttl / 8;
    await (await process()).resolve(copy(token));
    expect(await stored()).toEqual(bound);
    now += 200;
    await (await process()).resolve(copy(token));
    const used = await stored();
    expect(used?.record.lastUsed).toBe(now);
    const use = await (await process()).begin(copy(token));
    const leased = await stored();
    expect(leased?.record.usedUntil).toBeGreaterThan(now);
    use.end();
  });

  it('gives no rights: who can not open the data is refused, and nothing of the token is used up', async () => {
    const { token } = await (await process()).bind(file, whole, vulnerable);
    const barred = await process(async (name) => {
      throw new VhdkitError('PERMISSION_DENIED', `no ${name}`);
    });
    await expect(barred.resolve(copy(token))).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    expect(await store.refusals()).toEqual({ forbidden: 1 });
    expect(await bytesOf(await process(), copy(token))).toBe('aaaa');
  });

  it('of another host or an earlier start of the system: devices may have other numbers, nothing else', async () => {
    const on = (system: string) => ({
      process: { self: { host: system, pid: 1 }, system, hasEnded: () => false },
    });
    const { token } = await (await process(undefined, on('one'))).bind(file, whole, vulnerable);
    const renumbered = (change: Partial<FileFingerprint>) => async (name: string) => {
      const opened = await nodeFileSystem.open(name);
      const print = opened.fingerprint();
      if (!print) throw new Error('no fingerprint');
      opened.fingerprint = () => ({ ...print, device: print.device + 1n, ...change });
      return opened;
    };
    const changed = { code: 'SOURCE_CHANGED' };
    await expect((await process(renumbered({}), on('one'))).resolve(copy(token))).rejects.toMatchObject(
      changed,
    );
    await expect((await process(renumbered({}))).resolve(copy(token))).rejects.toMatchObject(changed);
    expect(await bytesOf(await process(renumbered({}), on('two')), copy(token))).toBe('aaaa');
    for (const field of ['inode', 'size', 'mtime', 'ctime'] as const) {
      const other = await process(renumbered({ [field]: 7n }), on('two'));
      await expect(other.resolve(copy(token)), field).rejects.toMatchObject(changed);
    }
  });

  it('is not taken up without a word of what the data was', async () => {
    const { token } = await (await process()).bind(file, whole, { mode: 'point-in-time', ttl: 0 });
    await expect((await process()).resolve(copy(token))).rejects.toMatchObject({
      code: 'TOKEN_INVALID',
      context: { reason: 'bound elsewhere' },
    });
  });

  it('that is revoked while it is used: the work finishes, no other begins', async () => {
    const { token } = await (await process()).bind(file, whole, vulnerable);
    const [worker, admin, late] = [await process(), await process(), await process()];
    const mine = copy(token);
    await worker.use(mine, async () => {
      expect(await admin.revokeById((await admin.inspect(token)).record?.id ?? '', 'remember')).toBe(true);
      await worker.keepPinned();
      await worker.verifyUnchanged(mine);
    });
    const revoked = { code: 'TOKEN_INVALID', context: { reason: 'revoked' } };
    await expect(late.resolve(copy(token))).rejects.toMatchObject(revoked);
    now += 500;
    await expect(worker.resolve(mine)).rejects.toMatchObject(revoked);
  });

  it('lives on while it is used anywhere, but not beyond its absolute time', async () => {
    const bound = await (await process()).bind(file, whole, { ...vulnerable, expires: now + 2500 });
    const [a, b] = [await process(), await process()];
    for (const user of [a, b, a]) {
      now += 700;
      expect(await bytesOf(user, copy(bound.token))).toBe('aaaa');
      expect(await b.reap()).toBe(0);
    }
    now += 401;
    await expect((await process()).resolve(copy(bound.token))).rejects.toMatchObject({
      code: 'TOKEN_EXPIRED',
    });
    await expect(a.resolve(copy(bound.token))).rejects.toMatchObject({ code: 'TOKEN_EXPIRED' });
  });
});

describe('persistent tokens', () => {
  it('show what was there, share what is kept, and give it back with the last of them', async () => {
    const manager = await process();
    const [one, two] = await manager.bindAll(file, [whole, { offset: 512, length: 512 }], persistent);
    if (!one || !two) throw new Error('two tokens');
    expect(kept()).toHaveLength(2);
    writeFileSync(at('a.img'), Buffer.alloc(4096, 'b'));
    expect(await bytesOf(await process(), copy(one.token))).toBe('aaaa');
    await manager.revoke(one.token);
    expect(await bytesOf(await process(), copy(two.token))).toBe('aaaa');
    now += 1001;
    expect(await (await process()).reap()).toBe(1);
    expect(kept()).toEqual([]);
    expect(await store.count()).toBe(0);
  });

  it('are refused when what was kept was changed or removed', async () => {
    const manager = await process();
    const { token } = await manager.bind(file, whole, persistent);
    const place = at(kept()[0] ?? '');
    writeFileSync(place, Buffer.alloc(4096, 'c'));
    await expect((await process()).resolve(copy(token))).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
    await keeper.release(place);
    await expect((await process()).resolve(copy(token))).rejects.toMatchObject({
      context: { reason: 'lost' },
    });
  });

  it.each(['keep', 'share'])(
    'a process that dies in %s leaves nothing that a sweep does not find',
    async (step) => {
      keeper.died = step;
      await expect((await process()).bindAll(file, [whole, whole], persistent)).rejects.toThrow('died');
      keeper.died = '';
      expect(kept().length).toBeGreaterThan(0);
      now += 1001;
      await (await process()).reap();
      expect(kept()).toEqual([]);
      expect(await store.count()).toBe(0);
    },
  );

  it('leave alone what the token of another store keeps under their name', async () => {
    const random = { bytes: (count: number) => new Uint8Array(count).fill(7) };
    const one = await process(undefined, { random });
    const { token } = await one.bind(file, whole, persistent);
    const other = new MemoryTokenStore();
    const more = { random, store: other, persistent: new PersistentData(other, keeper) };
    const two = await process(undefined, more);
    await expect(two.bind(file, whole, persistent)).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    expect(await other.count()).toBe(0);
    expect(await bytesOf(await process(), copy(token))).toBe('aaaa');
  });

  it('a process that dies while it gives back leaves the rest to the next', async () => {
    const manager = await process();
    const { token } = await manager.bind(file, whole, persistent);
    now += 1001;
    keeper.died = 'release';
    await expect(manager.reap()).rejects.toThrow('died');
    keeper.died = '';
    expect(kept()).toHaveLength(1);
    await expect((await process()).resolve(copy(token))).rejects.toMatchObject({ code: 'TOKEN_EXPIRED' });
    await (await process()).reap();
    expect(existsSync(at(kept()[0] ?? 'none'))).toBe(false);
    expect(await store.count()).toBe(0);
  });
});
