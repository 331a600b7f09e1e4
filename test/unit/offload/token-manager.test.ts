/** The token manager: expiry, refusal, change detection. */
import { beforeEach, describe, expect, it } from 'vitest';
import { type RandomSource, systemRandom } from '../../../src/base/random.js';
import { MemoryFile } from '../../../src/io/memory-file.js';
import type { FileFingerprint } from '../../../src/io/random-access-file.js';
import { MemoryTokenStore } from '../../../src/offload/store/memory-store.js';
import { Token } from '../../../src/offload/token.js';
import { ZERO_TOKEN } from '../../../src/offload/token-codec.js';
import { TokenManager } from '../../../src/offload/token-manager.js';

class WatchedFile extends MemoryFile {
  print: FileFingerprint = { device: 1n, inode: 2n, size: 3n, mtime: 4n, ctime: 5n };
  asked = 0;
  override fingerprint(): FileFingerprint {
    this.asked += 1;
    return { ...this.print };
  }
}

let now = 0;
let store: MemoryTokenStore;
let manager: TokenManager;
let file: WatchedFile;
const clock = { now: () => now };
const all = { offset: 0, length: 1000 };
const pit = { mode: 'point-in-time', ttl: 1000 } as const;
const watched = { mode: 'change-vulnerable', ttl: 1000 } as const;

beforeEach(() => {
  now = 1e12;
  store = new MemoryTokenStore();
  manager = new TokenManager({ clock, random: systemRandom, store });
  file = new WatchedFile(new Uint8Array(1000), 'disk.raw');
});

function copy(token: Token): Token {
  return new Token(token.toBytes());
}

const invalid = (reason: string) => ({ code: 'TOKEN_INVALID', context: { reason } });

describe('binding', () => {
  it('resolves to the file and range, from the bytes alone too', async () => {
    const { token } = await manager.bind(file, { offset: 100, length: 200 }, pit);
    const resolved = { kind: 'data', file, offset: 100, length: 200, mode: 'point-in-time' };
    expect(await manager.resolve(token)).toEqual(resolved);
    expect(await manager.resolve(copy(token))).toEqual(resolved);
  });

  it('cuts the range at the end of the file, and says so', async () => {
    expect(await manager.bind(file, { offset: 900, length: 200 }, pit)).toMatchObject({
      offset: 900,
      length: 100,
    });
    expect(await manager.bind(file, { offset: 1000, length: 1 }, pit)).toMatchObject({ length: 0 });
    await expect(manager.bind(file, { offset: 1001, length: 1 }, pit)).rejects.toMatchObject({
      code: 'OUT_OF_RANGE',
    });
  });

  it('gives no two tokens alike', async () => {
    const tokens = await Promise.all(Array.from({ length: 50 }, () => manager.bind(file, all, pit)));
    expect(new Set(tokens.map(({ token }) => Buffer.from(token.toBytes()).toString('hex'))).size).toBe(50);
  });

  it('takes another id when the first is taken, and gives up on a broken random source', async () => {
    let calls = 0;
    const repeating: RandomSource = { bytes: (count) => new Uint8Array(count).fill(calls++ < 9 ? 1 : calls) };
    const stuck = new TokenManager({ clock, random: { bytes: (count) => new Uint8Array(count) }, store });
    const lucky = new TokenManager({ clock, random: repeating, store });
    await lucky.bind(file, all, pit);
    await stuck.bind(file, all, pit);
    await expect(stuck.bind(file, all, pit)).rejects.toThrow('repeats itself');
  });

  it('refuses what it can not promise', async () => {
    const persistent = manager.bind(file, all, { mode: 'persistent', ttl: 0 });
    await expect(persistent).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('disk.raw'),
    });
    const blind = manager.bind(new MemoryFile(), { offset: 0, length: 0 }, watched);
    await expect(blind).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('zero tokens need no binding and never expire', async () => {
    expect(await manager.bind(file, all, { mode: 'zero', ttl: 1 })).toEqual({ token: ZERO_TOKEN, ...all });
    now += 1e12;
    expect(await manager.resolve(ZERO_TOKEN)).toEqual({ kind: 'zero' });
    for await (const entry of store.list()) expect(entry).toBeUndefined();
  });
});

describe('expiry', () => {
  it('is an inactivity timer that every use restarts', async () => {
    const { token } = await manager.bind(file, all, pit);
    for (let use = 0; use < 10; use += 1) {
      now += 1000;
      await manager.resolve(token);
    }
    now += 1001;
    await expect(manager.resolve(token)).rejects.toMatchObject({
      code: 'TOKEN_EXPIRED',
      context: { path: 'disk.raw' },
    });
    await expect(manager.resolve(copy(token))).rejects.toMatchObject({ code: 'TOKEN_EXPIRED' });
  });

  it('0 takes the default, and nothing lasts longer than the maximum', async () => {
    const short = new TokenManager({ clock, random: systemRandom, defaultTtl: 50, maxTtl: 100 });
    const byDefault = await short.bind(file, all, { ...pit, ttl: 0 });
    const capped = await short.bind(file, all, { ...pit, ttl: 1e9 });
    now += 51;
    await expect(short.resolve(byDefault.token)).rejects.toMatchObject({ code: 'TOKEN_EXPIRED' });
    now += 49;
    const unused = await short.bind(file, all, { ...pit, ttl: 1e9 });
    await short.resolve(capped.token);
    now += 101;
    await expect(short.resolve(unused.token)).rejects.toMatchObject({ code: 'TOKEN_EXPIRED' });
  });

  it('does not touch a token in use, and starts anew afterwards', async () => {
    const { token } = await manager.bind(file, all, pit);
    await manager.use(token, async () => {
      now += 50_000;
      expect(await manager.reap()).toBe(0);
      await manager.resolve(token);
    });
    now += 1000;
    await manager.resolve(token);
    const unpin = manager.pin(token);
    now += 50_000;
    unpin();
    unpin();
    now += 1000;
    await manager.resolve(token);
    now += 1001;
    await expect(manager.use(token, async () => undefined)).rejects.toMatchObject({ code: 'TOKEN_EXPIRED' });
  });

  it('reaping forgets what has expired and nothing else', async () => {
    const old = await manager.bind(file, all, pit);
    const young = await manager.bind(file, all, { ...pit, ttl: 5000 });
    now += 1001;
    expect(await manager.reap()).toBe(1);
    await expect(manager.resolve(copy(old.token))).rejects.toMatchObject(invalid('unknown'));
    await manager.resolve(young.token);
  });

  it('keeps the store informed, so that nobody else reaps a token in use', async () => {
    const { token } = await manager.bind(file, all, pit);
    const stored = async () => {
      for await (const { record } of store.list()) return record.lastUsed;
      return undefined;
    };
    now += 900;
    await manager.resolve(token);
    expect(await stored()).toBe(now);
    now += 10;
    await manager.resolve(token);
    expect(await stored()).toBe(now - 10);
  });
});

describe('refusing', () => {
  it('forged tokens, also when the genuine one was seen', async () => {
    const { token } = await manager.bind(file, all, pit);
    await manager.resolve(token);
    for (const at of [8, 63, 450, 511]) {
      const bytes = token.toBytes();
      bytes[at] = (bytes[at] ?? 0) ^ 0x10;
      await expect(manager.resolve(new Token(bytes))).rejects.toMatchObject(invalid('forged'));
    }
    await expect(manager.resolve(new Token(new Uint8Array(512)))).rejects.toMatchObject(invalid('malformed'));
  });

  it('revoked tokens at once', async () => {
    const { token } = await manager.bind(file, all, pit);
    const other = copy(token);
    await manager.resolve(other);
    await manager.revoke(token);
    await expect(manager.resolve(token)).rejects.toMatchObject(invalid('revoked'));
    await expect(manager.resolve(other)).rejects.toMatchObject(invalid('revoked'));
    await expect(manager.resolve(copy(token))).rejects.toMatchObject(invalid('unknown'));
    await manager.revoke(new Token(new Uint8Array(512)));
  });

  it('tokens that somebody deleted in the store, once it is looked at', async () => {
    const { token } = await manager.bind(file, all, pit);
    for await (const { record } of store.list()) await store.delete(record.id);
    now += 500;
    await expect(manager.resolve(token)).rejects.toMatchObject(invalid('revoked'));
  });
});

describe('change-vulnerable tokens', () => {
  it.each(['device', 'inode', 'size', 'mtime', 'ctime'] as const)(
    'are refused when %s differs',
    async (field) => {
      const { token } = await manager.bind(file, all, watched);
      await manager.resolve(token);
      await manager.verifyUnchanged(token);
      file.print[field] += 1n;
      const refusal = { code: 'SOURCE_CHANGED', context: { path: 'disk.raw' } };
      await expect(manager.resolve(token)).rejects.toMatchObject(refusal);
      await expect(manager.verifyUnchanged(token)).rejects.toMatchObject(refusal);
    },
  );

  it('cost one look at the file per resolve; point-in-time tokens none', async () => {
    const vulnerable = await manager.bind(file, all, watched);
    const fixed = await manager.bind(file, all, pit);
    file.asked = 0;
    await manager.resolve(fixed.token);
    expect(file.asked).toBe(0);
    await manager.resolve(vulnerable.token);
    expect(file.asked).toBe(1);
  });
});
