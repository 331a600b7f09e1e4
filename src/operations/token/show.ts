/**
 * `token show` and `token list`: what tokens stand for and how they stand.
 *
 * Invariant: nothing here tells a secret (random values, checksums, the key), uses a token or opens its
 * source. What a token is bound to is told only to whoever can open its store.
 */
import type { TokenRecord } from '../../offload/store/token-store.js';
import { dueTime } from '../../offload/store/token-store.js';
import { limitOf, stateOf, type TokenStanding } from '../../offload/token-standing.js';
import type { Host } from '../host.js';
import { type ShownAuxiliary, showAuxiliary } from './auxiliary-show.js';
import { type ShownLimits, shownLimits } from './limits.js';
import { type StoreChoice, withTokens } from './store.js';
import { readTokenSet } from './token-file.js';

/** A token's life, as its store has it. Times are milliseconds since 1970 UTC. */
export interface TokenLife {
  source: string;
  sourceOffset: number;
  created: number;
  lastUsed: number;
  /** Inactivity time-out in milliseconds. */
  ttl: number;
  /** When the token ends if nobody uses it. */
  due: number;
  /** When it ends in any case; null: never. */
  expires: number | null;
  /** Storage that keeping its data may cost; null where nothing is kept. */
  keptBytes: number | null;
  /** Tokens of lower priority make room first. */
  priority: number;
  /** Somebody uses it until then at least; null: nobody that is known of. */
  usedUntil: number | null;
  /** The process that it lives and dies with; null: it has none. */
  owner: { host: string; pid: number } | null;
  /** Of an evicted one, the limit that it made room for: `tokens`, `kept`, `memory`. */
  limit: string | null;
}

function lifeOf(record: TokenRecord, now: number): TokenLife {
  const { path, offset, created, lastUsed, ttl, expires, keptPath, keptBytes } = record;
  const { priority = 0, usedUntil = 0, owner } = record;
  return {
    source: path,
    sourceOffset: offset,
    created,
    lastUsed,
    ttl,
    due: dueTime(record),
    expires: expires ?? null,
    keptBytes: keptPath === undefined ? null : (keptBytes ?? 0),
    priority,
    usedUntil: usedUntil >= now ? usedUntil : null,
    owner: owner ? { host: owner.host, pid: owner.pid } : null,
    limit: limitOf(record) ?? null,
  };
}

export interface TokenShowOptions {
  /** The token file. */
  tokens: string;
  store?: StoreChoice;
}

export interface ShownToken {
  /** Null for zeros. */
  id: string | null;
  mode: string;
  /** Within what the file stands for. */
  offset: number;
  /** Null: any number (a zero token alone). */
  length: number | null;
  state: TokenStanding['state'];
  /** The store that made it; null for zeros. */
  creator: string | null;
  life: TokenLife | null;
}

export interface TokenShowResult {
  path: string;
  /** Null: any number of bytes. */
  length: number | null;
  tokens: ShownToken[];
  /** Checksum and hash tokens that go with them, and others that are passed on. */
  auxiliary: ShownAuxiliary[];
}

/** @throws TOKEN_INVALID (`malformed`), NOT_FOUND, TOKEN_STORE_FAILED */
export async function showTokens(host: Host, options: TokenShowOptions): Promise<TokenShowResult> {
  const { ranges, auxiliary, primaries } = await readTokenSet(host, options.tokens);
  return withTokens(host, options.store, async ({ manager, store }) => {
    const tokens: ShownToken[] = [];
    for (const { token, claims, offset, length } of ranges) {
      const { state, record } = await manager.inspect(token);
      tokens.push({
        id: claims.id || null,
        mode: claims.mode,
        offset,
        length: finite(length),
        state,
        creator: claims.creator || null,
        life: record ? lifeOf(record, host.clock.now()) : null,
      });
    }
    const last = ranges.at(-1);
    return {
      path: options.tokens,
      length: finite(last ? last.offset + last.length : 0),
      tokens,
      auxiliary: showAuxiliary(auxiliary, primaries, await store.key()),
    };
  });
}

function finite(length: number): number | null {
  return length === Number.MAX_SAFE_INTEGER ? null : length;
}

export interface ListedToken extends TokenLife {
  id: string;
  mode: string;
  state: TokenStanding['state'];
  length: number;
}

export interface TokenListResult {
  /** In the order in which they were made. */
  tokens: ListedToken[];
  /** Storage kept for all of them. */
  keptBytes: number;
  limits: ShownLimits;
  /** How many times the store's users refused a token, by reason. */
  refusals: Record<string, number>;
}

export interface TokenListOptions {
  store?: StoreChoice;
}

/** @throws TOKEN_STORE_FAILED */
export async function listTokens(host: Host, options: TokenListOptions): Promise<TokenListResult> {
  return withTokens(host, options.store, async ({ store, hasEnded }) => {
    const tokens: ListedToken[] = [];
    const now = host.clock.now();
    for await (const { record } of store.list()) {
      const { id, mode, length } = record;
      tokens.push({ id, mode, state: stateOf(record, now, hasEnded), length, ...lifeOf(record, now) });
    }
    tokens.sort((a, b) => a.created - b.created || (a.id < b.id ? -1 : 1));
    const kept = tokens.filter(({ state }) => state === 'valid' || state === 'leaving');
    return {
      tokens,
      keptBytes: kept.reduce((sum, { keptBytes }) => sum + (keptBytes ?? 0), 0),
      limits: await shownLimits(store),
      refusals: await store.refusals(),
    };
  });
}
