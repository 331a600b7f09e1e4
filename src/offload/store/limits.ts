/**
 * What a store's limits count, and the order in which records make room.
 *
 * Invariants: only live records count; a change is refused only if it takes more of what is limited and there
 * is too little of it, so whatever ends, shrinks or is merely used is never refused, whatever the limits say.
 *
 * The order: what ended but was not swept yet; what is to leave; then the lowest priority; and of equal
 * priority what would be over first if nobody used it, which of tokens with the same time-out is the one that
 * was not used for longest. Not here: who may be evicted (the manager: nothing in use, nothing above the
 * newcomer's priority).
 */
import { storeError } from './store-errors.js';
import {
  dueTime,
  type EvictionOrder,
  type StoredToken,
  type StoreLimits,
  type StoreUsage,
  type TokenRecord,
} from './token-store.js';

/** Records that a walk picks out at once. */
const PICKED = 256;

export const NO_USAGE: StoreUsage = { tokens: 0, ended: 0, keptBytes: 0 };

export function isLive(record: TokenRecord): boolean {
  return !record.revoked;
}

/** What the record takes of the limit for kept bytes. */
export function chargeOf(record: TokenRecord): number {
  return isLive(record) ? (record.keptBytes ?? 0) : 0;
}

export function usageOf(record: TokenRecord | undefined): StoreUsage {
  if (!record) return NO_USAGE;
  const live = isLive(record);
  return { tokens: live ? 1 : 0, ended: live ? 0 : 1, keptBytes: chargeOf(record) };
}

export function addUsage(a: StoreUsage, b: StoreUsage): StoreUsage {
  return { tokens: a.tokens + b.tokens, ended: a.ended + b.ended, keptBytes: a.keptBytes + b.keptBytes };
}

/** What is in use after a record took another's place, which may be none. */
export function usageAfter(
  used: StoreUsage,
  before: TokenRecord | undefined,
  after: TokenRecord | undefined,
): StoreUsage {
  const [gone, come] = [usageOf(before), usageOf(after)];
  return {
    tokens: used.tokens + come.tokens - gone.tokens,
    ended: used.ended + come.ended - gone.ended,
    keptBytes: used.keptBytes + come.keptBytes - gone.keptBytes,
  };
}

/** @throws TOKEN_LIMIT (`token-limit`, `kept-limit`) when a change from `used` to `next` goes beyond the limits */
export function assertRoom(
  { tokens = Number.POSITIVE_INFINITY, keptBytes = Number.POSITIVE_INFINITY }: StoreLimits,
  used: StoreUsage,
  next: StoreUsage,
  location: string,
): void {
  if (next.tokens > used.tokens && next.tokens > tokens)
    throw storeError('token-limit', location, `it is to hold ${tokens} tokens at most`);
  if (next.keptBytes > used.keptBytes && next.keptBytes > keptBytes) {
    const detail = `it is to keep ${keptBytes} bytes at most, and this would be ${next.keptBytes}`;
    throw storeError('kept-limit', location, detail);
  }
}

/** What is limited at all. */
export function isLimited(limits: StoreLimits): boolean {
  return limits.tokens !== undefined || limits.keptBytes !== undefined;
}

/** Reads limits from outside; what makes no sense is left out. */
export function toLimits(value: object): StoreLimits {
  const limits: StoreLimits = {};
  for (const name of ['tokens', 'keptBytes', 'memory'] as const) {
    const number = (value as Record<string, unknown>)[name];
    if (typeof number === 'number' && Number.isSafeInteger(number) && number >= 0) limits[name] = number;
  }
  return limits;
}

type Rank = readonly [swept: number, stays: number, priority: number, due: number, id: string];

function rank(record: TokenRecord, order: EvictionOrder, now: number): Rank {
  const due = dueTime(record);
  if (order === 'ended') return [0, 0, 0, due, record.id];
  return [due < now ? 0 : 1, record.leaving ? 0 : 1, record.priority ?? 0, due, record.id];
}

function compare(a: Rank, b: Rank): number {
  for (const [index, value] of a.entries()) {
    const other = b[index];
    if (other === undefined || value === other) continue;
    return value < other ? -1 : 1;
  }
  return 0;
}

function belongs(record: TokenRecord, order: EvictionOrder): boolean {
  if (order === 'ended') return !isLive(record);
  return isLive(record) && (order === 'tokens' || chargeOf(record) > 0);
}

interface Picked {
  rank: Rank;
  entry: StoredToken;
}

/** The first records behind a rank. */
async function pick(
  entries: AsyncIterable<StoredToken>,
  order: EvictionOrder,
  now: number,
  after: Rank | undefined,
): Promise<Picked[]> {
  let picked: Picked[] = [];
  const cut = (): void => {
    picked.sort((a, b) => compare(a.rank, b.rank));
    picked = picked.slice(0, PICKED);
  };
  for await (const entry of entries) {
    if (!belongs(entry.record, order)) continue;
    const place = rank(entry.record, order, now);
    if (after && compare(place, after) <= 0) continue;
    picked.push({ rank: place, entry });
    if (picked.length === 4 * PICKED) cut();
  }
  cut();
  return picked;
}

/** The order by walking, for stores without an index: a walk for every 256 records. */
export async function* inEvictionOrder(
  walk: () => AsyncIterable<StoredToken>,
  order: EvictionOrder,
  now: number,
): AsyncGenerator<StoredToken> {
  let after: Rank | undefined;
  for (;;) {
    const picked = await pick(walk(), order, now, after);
    for (const { entry } of picked) yield entry;
    after = picked.at(-1)?.rank;
    if (picked.length < PICKED) return;
  }
}
