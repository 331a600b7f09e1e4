/** How tokens make room, leave, and live with their owners: managers over one store, as processes are. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { VhdkitError } from '../../../src/base/errors.js';
import { systemRandom } from '../../../src/base/random.js';
import type { DataKeeper } from '../../../src/io/data-keeper.js';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import type { ProcessIdentity } from '../../../src/io/process-identity.js';
import type { RandomAccessFile } from '../../../src/io/random-access-file.js';
import { PersistentData } from '../../../src/offload/persistent-data.js';
import { holdToken } from '../../../src/offload/provider-base.js';
import { MemoryTokenStore } from '../../../src/offload/store/memory-store.js';
import type { TokenOwner, TokenRecord } from '../../../src/offload/store/token-store.js';
import { Token } from '../../../src/offload/token.js';
import { TokenManager, type TokenManagerOptions } from '../../../src/offload/token-manager.js';
import { TokenSources } from '../../../src/offload/token-sources.js';
import { stateOf } from '../../../src/offload/token-standing.js';
import { makeTempFolder } from '../../support/tmp.js';

const whole = { offset: 0, length: 4096 };
const clock = { now: () => now };
let now = 0;
let store: MemoryTokenStore;
let file: RandomAccessFile;
let folder: string;
const dead = new Set<number>();
let pids = 0;

/** Says what was kept, and keeps nothing. */
class CountingKeeper implements DataKeeper {
  bytes = 10;
  readonly places = new Set<string>();
  placeFor(source: string, name: string): string {
    return path.join(path.dirname(source), 'kept', name);
  }
  async keep(source: RandomAccessFile, place: string) {
    this.#make(place);
    const fingerprint = source.fingerprint();
    if (!fingerprint) throw new Error('no fingerprint');
    return { fingerprint, bytes: this.bytes };
  }
  async share(_: string, place: string): Promise<void> {
    this.#make(place);
  }
  async release(place: string): Promise<void> {
    this.places.delete(place);
  }
  #make(place: string): void {
    mkdirSync(path.dirname(place), { recursive: true });
    this.places.add(place);
  }
}

let keeper: CountingKeeper;

async function process(more: Partial<TokenManagerOptions> = {}): Promise<TokenManager> {
  pids += 1;
  const identity: ProcessIdentity = {
    self: { host: 'here', pid: pids },
    system: 'boot',
    hasEnded: (owner: TokenOwner) => owner.host === 'here' && dead.has(owner.pid),
  };
  const sources = new TokenSources((name) => nodeFileSystem.open(name));
  const persistent = new PersistentData(store, keeper);
  const key = await store.key();
  return new TokenManager({
    clock,
    random: systemRandom,
    store,
    key,
    sources,
    persistent,
    process: identity,
    ...more,
  });
}

const options = { mode: 'change-vulnerable', ttl: 60_000 } as const;
const copy = (token: Token): Token => new Token(token.toBytes());
const refused = (reason: string) => ({ code: 'TOKEN_INVALID', context: { reason } });
const noRoom = (reason: string) => ({ code: 'TOKEN_LIMIT', context: { reason }, hint: expect.any(String) });

async function bind(manager: TokenManager, more: object = {}): Promise<Token> {
  now += 1;
  return (await manager.bind(file, whole, { ...options, ...more })).token;
}

async function states(): Promise<string[]> {
  const found: TokenRecord[] = [];
  for await (const { record } of store.list()) found.push(record);
  found.sort((a, b) => a.created - b.created);
  return found.map((record) => stateOf(record, now));
}

beforeEach(async () => {
  now = 1e12;
  store = new MemoryTokenStore();
  keeper = new CountingKeeper();
  dead.clear();
  folder = makeTempFolder('token-life');
  writeFileSync(path.join(folder, 'a.img'), Buffer.alloc(4096, 'a'));
  file = await nodeFileSystem.open(path.join(folder, 'a.img'));
  return () => file.close();
});

describe('a limit of tokens', () => {
  it('evicts the one not used for longest, and says so to its holder wherever he is', async () => {
    const [a, b] = [await process(), await process()];
    await store.setLimits({ tokens: 2 });
    const first = await bind(a);
    const second = await bind(a);
    now += 20_000;
    await a.resolve(first);
    await bind(b);
    expect(await states()).toEqual(['valid', 'evicted', 'valid']);
    await expect(b.resolve(copy(second))).rejects.toMatchObject(refused('evicted'));
    // Who bound it is told as soon as the store is asked.
    now += 20_000;
    await expect(a.resolve(second)).rejects.toMatchObject(refused('evicted'));
    await a.resolve(first);
    expect(await store.refusals()).toEqual({ evicted: 2 });
  });

  it('evicts by priority, never above that of the newcomer; what is over goes first of all', async () => {
    const manager = await process();
    await store.setLimits({ tokens: 3 });
    const over = await bind(manager, { priority: 9, ttl: 10 });
    await bind(manager, { priority: 2 });
    await bind(manager, { priority: 1 });
    now += 11;
    await bind(manager, { priority: -1 });
    expect(await states()).toEqual(['expired', 'valid', 'valid', 'valid']);
    await expect(manager.resolve(over)).rejects.toMatchObject({ code: 'TOKEN_EXPIRED' });
    await bind(manager, { priority: 1 });
    await bind(manager, { priority: 1 });
    expect(await states()).toEqual(['expired', 'valid', 'evicted', 'evicted', 'valid', 'valid']);
    await expect(bind(manager)).rejects.toMatchObject(noRoom('token-limit'));
    expect((await store.usage()).tokens).toBe(3);
    expect((await store.refusals()).limit).toBe(1);
  });

  it('evicts nothing that is in use, here or elsewhere, and waits for no lease longer than it is held', async () => {
    const [binder, user] = [await process(), await process()];
    await store.setLimits({ tokens: 2 });
    const [here, there] = [await bind(binder), await bind(binder)];
    const unpin = binder.pin(here);
    const use = await user.begin(copy(there));
    await expect(bind(binder)).rejects.toMatchObject(noRoom('token-limit'));
    // Work that goes on gives signs of life.
    for (let step = 0; step < 4; step += 1) {
      now += 10_000;
      await user.keepPinned();
      await expect(bind(binder)).rejects.toMatchObject(noRoom('token-limit'));
    }
    use.end();
    await user.giveBackUses();
    await bind(binder);
    expect(await states()).toEqual(['valid', 'evicted', 'valid']);
    unpin();
  });

  it('a user that dies blocks a place for a few seconds only', async () => {
    const [binder, user] = [await process(), await process()];
    await store.setLimits({ tokens: 1 });
    await user.begin(copy(await bind(binder)));
    await expect(bind(binder)).rejects.toMatchObject(noRoom('token-limit'));
    now += 15_001;
    await bind(binder);
  });

  // Also when they began at the same moment, or by a clock that is behind.
  it.each([
    [100, 'second'],
    [100, 'first'],
    [0, 'second'],
    [0, 'first'],
    [-5, 'first'],
  ])('of uses that began %d ms apart the one is left when the %s is given back', async (later, ends) => {
    const [binder, one, two] = [await process(), await process(), await process()];
    await store.setLimits({ tokens: 1 });
    const token = await bind(binder);
    const first = { manager: one, use: await one.begin(copy(token)) };
    now += later;
    const second = { manager: two, use: await two.begin(copy(token)) };
    const [before, after] = ends === 'first' ? [first, second] : [second, first];
    before.use.end();
    await before.manager.giveBackUses();
    await expect(bind(binder)).rejects.toMatchObject(noRoom('token-limit'));
    after.use.end();
    await after.manager.giveBackUses();
    now += 15_010;
    await bind(binder);
  });

  it('sweeps the rest although this user may not remove what is kept for another', async () => {
    const [a, b] = [await process(), await process()];
    await bind(a, { mode: 'persistent', ttl: 1000 });
    const [theirs = ''] = keeper.places;
    await bind(b, { mode: 'persistent', ttl: 1000 });
    const release = keeper.release.bind(keeper);
    keeper.release = async (place) => {
      if (place === theirs) throw new VhdkitError('PERMISSION_DENIED', 'not yours');
      return release(place);
    };
    now += 5000;
    await b.reap();
    expect([...keeper.places]).toEqual([theirs]);
    // Its record stays, so that who may remove it learns of it.
    keeper.release = release;
    await a.reap();
    expect([keeper.places.size, await store.count()]).toEqual([0, 0]);
  });

  it('evicts nothing that a provider holds in another process', async () => {
    const [a, b] = [await process(), await process()];
    await store.setLimits({ tokens: 1 });
    const token = await bind(a);
    const held = await holdToken(b, copy(token));
    await expect(bind(a)).rejects.toMatchObject(noRoom('token-limit'));
    held.release();
    await b.giveBackUses();
    await bind(a);
    expect(await states()).toEqual(['evicted', 'valid']);
  });

  it('binds several all or none, and never one by evicting another of them', async () => {
    const manager = await process();
    await store.setLimits({ tokens: 2 });
    const old = await bind(manager);
    await expect(manager.bindAll(file, [whole, whole, whole], options)).rejects.toMatchObject(
      noRoom('token-limit'),
    );
    expect((await store.usage()).tokens).toBe(0);
    await expect(manager.resolve(copy(old))).rejects.toMatchObject(refused('evicted'));
    expect(await manager.bindAll(file, [whole, whole], options)).toHaveLength(2);
    await store.setLimits({ tokens: 0 });
    await expect(bind(manager)).rejects.toMatchObject(noRoom('token-limit'));
    expect((await store.usage()).tokens).toBe(2);
  });
});

describe('who is evicted is decided by compare-and-swap', () => {
  it('one whose use begins after it was chosen stays', async () => {
    const [binder, user] = [await process(), await process()];
    const [chosen, next] = [await bind(binder), await bind(binder)];
    await store.setLimits({ tokens: 2 });
    const order = store.evictionOrder.bind(store);
    let uses = 0;
    store.evictionOrder = async function* (which, moment) {
      for await (const entry of order(which, moment)) {
        // Between the look and the eviction.
        if (uses === 0) await user.begin(copy(chosen));
        uses += 1;
        yield entry;
      }
    };
    await bind(binder);
    await user.resolve(copy(chosen));
    await expect(user.resolve(copy(next))).rejects.toMatchObject(refused('evicted'));
  });

  it('one that was evicted before its use begins is refused', async () => {
    const [binder, user] = [await process(), await process()];
    const token = await bind(binder);
    const mine = copy(token);
    await user.resolve(mine);
    await store.setLimits({ tokens: 1 });
    await bind(await process());
    await expect(user.begin(mine)).rejects.toMatchObject(refused('evicted'));
    // Nothing of the use that did not begin is left.
    await expect(user.keepPinned()).resolves.toBeUndefined();
    expect(await states()).toEqual(['evicted', 'valid']);
  });
});

describe('a limit of kept bytes', () => {
  const persistent = { mode: 'persistent', ttl: 60_000 } as const;
  const keep = async (manager: TokenManager, count = 1, more: object = {}) => {
    now += 1;
    return manager.bindAll(file, Array(count).fill(whole), { ...persistent, ...more });
  };

  it('evicts what keeps storage, together with what shares it, and gives it back', async () => {
    const manager = await process();
    await store.setLimits({ keptBytes: 25 });
    await bind(manager);
    await keep(manager, 2);
    await keep(manager);
    expect(await store.usage()).toEqual({ tokens: 4, ended: 0, keptBytes: 20 });
    await keep(manager);
    expect(await states()).toEqual(['valid', 'evicted', 'evicted', 'valid', 'valid']);
    expect(keeper.places.size).toBe(2);
    expect((await store.usage()).keptBytes).toBe(20);
  });

  it('evicts nothing in vain', async () => {
    const manager = await process();
    await store.setLimits({ keptBytes: 25 });
    await keep(manager);
    await keep(manager, 1, { priority: 1 });
    keeper.bytes = 20;
    await expect(keep(manager)).rejects.toMatchObject(noRoom('kept-limit'));
    keeper.bytes = 26;
    await expect(keep(manager, 1, { priority: 5 })).rejects.toMatchObject(noRoom('kept-limit'));
    expect(await states()).toEqual(['valid', 'valid']);
    expect(keeper.places.size).toBe(2);
    keeper.bytes = 20;
    await keep(manager, 1, { priority: 1 });
    expect(keeper.places.size).toBe(1);
  });

  it('counts what is shared once, as long as anybody needs it', async () => {
    const manager = await process();
    await store.setLimits({ keptBytes: 100 });
    const [one, two] = await keep(manager, 2);
    if (!one || !two) throw new Error('two tokens');
    await manager.revoke(one.token);
    expect(await store.usage()).toEqual({ tokens: 1, ended: 0, keptBytes: 10 });
    await manager.revoke(two.token);
    expect(await store.usage()).toEqual({ tokens: 0, ended: 0, keptBytes: 0 });
    expect(keeper.places.size).toBe(0);
  });
});

describe('a limit of memory', () => {
  it('gives up what the store can bring back, without anybody noticing', async () => {
    const manager = await process({ maxMemory: 10_000 });
    const tokens: Token[] = [];
    for (let index = 0; index < 50; index += 1) tokens.push(await bind(manager));
    expect(manager.memoryUsed).toBeLessThanOrEqual(10_000);
    for (const token of tokens) await manager.resolve(copy(token));
    const [used] = tokens;
    if (!used) throw new Error('tokens');
    await manager.use(used, async () => {
      for (let index = 0; index < 50; index += 1) await bind(manager);
      expect(await manager.reap()).toBe(0);
      await manager.verifyUnchanged(used);
    });
    for (const token of tokens) await manager.resolve(token);
    expect(manager.memoryUsed).toBeLessThanOrEqual(10_000);
    expect(new Set(await states())).toEqual(new Set(['valid']));
  });

  it('never takes tokens from others because all that is known here was used lately', async () => {
    const [binder, manager] = [await process(), await process({ maxMemory: 200_000 })];
    const tokens: Token[] = [];
    for (let index = 0; index < 300; index += 1) tokens.push(await bind(binder));
    for (const token of tokens) {
      now += 1;
      const mine = copy(token);
      await manager.resolve(mine);
      now += 1;
      await manager.resolve(mine);
    }
    expect(manager.memoryUsed).toBeLessThanOrEqual(200_000);
    expect(new Set(await states())).toEqual(new Set(['valid']));
  });

  it('evicts where nothing can be brought back, and refuses when all are in use', async () => {
    const manager = new TokenManager({ clock, random: systemRandom, store, maxMemory: 4000 });
    const low = await bind(manager, { priority: -1 });
    const used = await bind(manager);
    const unpin = manager.pin(used);
    for (let index = 0; index < 3; index += 1) await bind(manager);
    await expect(manager.resolve(low)).rejects.toMatchObject(refused('evicted'));
    await manager.resolve(used);
    expect(manager.memoryUsed).toBeLessThanOrEqual(4000);
    await expect(bind(manager, { priority: -5 })).rejects.toMatchObject(noRoom('memory-limit'));
    expect(manager.memoryUsed).toBeLessThanOrEqual(4000);
    unpin();
  });
});

describe('revocation', () => {
  it('as a hint lets users finish, and nobody begin', async () => {
    const [binder, user, late] = [await process(), await process(), await process()];
    const token = await bind(binder);
    const id = (await binder.inspect(token)).record?.id ?? '';
    const mine = copy(token);
    const use = await user.begin(mine);
    expect(await late.hintById(id)).toBe('leaving');
    expect(await states()).toEqual(['leaving']);
    // A use that ends before it has given another sign of life ends nevertheless.
    const short = await process();
    const hinted = await bind(binder);
    const brief = await short.begin(copy(hinted));
    expect(await late.hintById((await binder.inspect(hinted)).record?.id ?? '')).toBe('leaving');
    brief.end();
    await short.giveBackUses();
    expect(await short.reap()).toBe(1);
    expect(await states()).toEqual(['leaving']);
    await expect(late.resolve(copy(token))).rejects.toMatchObject(refused('revoked'));
    for (let step = 0; step < 5; step += 1) {
      now += 10_000;
      await user.keepPinned();
      expect(await late.reap(1000)).toBe(0);
    }
    await user.use(mine, async () => undefined);
    expect(await user.endedInUse()).toBeUndefined();
    use.end();
    await user.giveBackUses();
    expect(await user.reap(1000)).toBe(1);
    expect(await states()).toEqual(['revoked']);
    await expect(user.resolve(mine)).rejects.toMatchObject(refused('revoked'));
  });

  it('as a hint ends at once what nobody uses, and first when room is needed what somebody used', async () => {
    const manager = await process();
    const idle = await bind(manager);
    expect(await manager.hintById((await manager.inspect(idle)).record?.id ?? '')).toBe('revoked');
    expect(await manager.hintById((await manager.inspect(idle)).record?.id ?? '')).toBe('ended');
    const used = await bind(manager, { priority: 50 });
    await (await process()).begin(copy(used));
    expect(await manager.hintById((await manager.inspect(used)).record?.id ?? '')).toBe('leaving');
    await bind(manager);
    await store.setLimits({ tokens: 2 });
    now += 15_001;
    await bind(manager);
    expect(await states()).toEqual(['revoked', 'revoked', 'valid', 'valid']);
  });

  it('as an order is seen by those who use it, who may stop or finish', async () => {
    const [binder, user] = [await process(), await process()];
    const token = await bind(binder);
    const mine = copy(token);
    const use = await user.begin(mine);
    await binder.revokeById((await binder.inspect(token)).record?.id ?? '', 'remember');
    expect(await user.endedInUse()).toBe('revoked');
    await user.verifyUnchanged(mine);
    use.end();
    await expect(user.begin(mine)).rejects.toMatchObject(refused('revoked'));
    expect(await user.endedInUse()).toBeUndefined();
  });
});

describe('a close-bound token', () => {
  it('ends when its file is closed, and no other', async () => {
    const [binder, user] = [await process(), await process()];
    const bound = await bind(binder, { closeBound: true });
    const free = await bind(binder);
    await user.resolve(copy(bound));
    expect(await binder.closeFile(file)).toHaveLength(1);
    for (const manager of [binder, await process()])
      await expect(manager.resolve(copy(bound))).rejects.toMatchObject(refused('closed'));
    await expect(binder.resolve(bound)).rejects.toMatchObject(refused('closed'));
    await user.resolve(copy(free));
    expect(await binder.closeFile()).toEqual([]);
    expect(await states()).toEqual(['closed', 'valid']);
  });

  it('ends with its process: on its host at once, also for who had taken it up', async () => {
    const binder = await process();
    const pid = pids;
    const user = await process();
    const tokens = [await bind(binder, { closeBound: true }), await bind(binder, { closeBound: true })];
    const [first, second] = tokens.map(copy);
    if (!first || !second) throw new Error('two tokens');
    await user.resolve(first);
    dead.add(pid);
    await expect(user.resolve(first)).rejects.toMatchObject(refused('closed'));
    await expect(user.resolve(second)).rejects.toMatchObject(refused('closed'));
    expect(await states()).toEqual(['closed', 'closed']);
    expect(await store.refusals()).toEqual({ closed: 2 });
  });

  it('ends on other hosts when its owner is silent, and not before', async () => {
    const binder = await process();
    const elsewhere = await process({
      process: { self: { host: 'there', pid: 1 }, system: 'other', hasEnded: () => false },
    });
    const token = copy(await bind(binder, { closeBound: true }));
    for (let step = 0; step < 5; step += 1) {
      now += 20_000;
      await binder.keepPinned();
      await elsewhere.resolve(token);
    }
    // Users keep it from being idle, but not alive.
    now += 20_000;
    await elsewhere.resolve(token);
    now += 15_000;
    await expect(elsewhere.resolve(token)).rejects.toMatchObject(refused('closed'));
    expect(await elsewhere.reap(60_000)).toBe(1);
    expect(await states()).toEqual(['closed']);
  });

  it('gives back what was kept for it', async () => {
    const binder = await process();
    await binder.bindAll(file, [whole, whole], { ...options, mode: 'persistent', closeBound: true });
    expect(keeper.places.size).toBe(2);
    expect(await binder.closeFile()).toHaveLength(2);
    expect(keeper.places.size).toBe(0);
  });
});
