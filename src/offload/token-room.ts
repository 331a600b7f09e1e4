/**
 * Making room in a store that has reached a limit.
 *
 * The order of eviction: what is over and was not swept yet; what was asked to leave; the lowest priority;
 * and of equal priority what would be over first (store/limits.ts). Never evicted: what anybody uses, and
 * what has a higher priority than the newcomer. For kept bytes only what is kept counts, and tokens that share
 * it go together; nothing goes unless all that is needed can go.
 *
 * Invariant: who is evicted is decided by the revision that was looked at: one that was used or renewed
 * meanwhile stays.
 */
import { isVhdkitError } from '../base/errors.js';
import type { ProcessIdentity } from '../io/process-identity.js';
import type { StoredToken, TokenRecord, TokenStore } from './store/token-store.js';
import type { TokenEndings } from './token-endings.js';
import { type EndReason, type LimitName, stateOf } from './token-standing.js';

/** Ended tokens beyond so many are not remembered any longer, the longest over first. */
export const MOST_REMEMBERED = 10_000;
/** Evictions after which they are counted. */
const COUNT_EVERY = 64;
/** Somebody else may take the room that was made. */
const MAX_ROUNDS = 1_000_000;

/** Who needs room, and how much. */
export interface Newcomer {
  priority: number;
  /** For the kept limit. */
  keptBytes: number;
  /** Ids that belong to it: a token makes no room for its own like. */
  together: ReadonlySet<string>;
}

/** The limit that an error speaks of. */
function limitOf(error: unknown): 'tokens' | 'kept' | undefined {
  if (!isVhdkitError(error) || error.code !== 'TOKEN_LIMIT') return undefined;
  if (error.context.reason === 'token-limit') return 'tokens';
  return error.context.reason === 'kept-limit' ? 'kept' : undefined;
}

export class TokenRoom {
  readonly #store: TokenStore;
  readonly #endings: TokenEndings;
  readonly #process: ProcessIdentity | undefined;
  readonly #inUse: (id: string) => boolean;
  readonly #hears: (id: string, reason: EndReason) => void;
  #evicted = 0;

  /**
   * @param inUse says of a token that it is used in this process
   * @param hears of every token that was evicted here
   */
  constructor(
    store: TokenStore,
    endings: TokenEndings,
    process: ProcessIdentity | undefined,
    inUse: (id: string) => boolean,
    hears: (id: string, reason: EndReason) => void,
  ) {
    this.#store = store;
    this.#endings = endings;
    this.#process = process;
    this.#inUse = inUse;
    this.#hears = hears;
  }

  /** Does a change of the store, making room for it as often as that is needed. @throws TOKEN_LIMIT */
  async admit<T>(newcomer: Newcomer, now: number, change: () => Promise<T>): Promise<T> {
    for (let round = 1; ; round += 1) {
      try {
        return await change();
      } catch (error) {
        const limit = limitOf(error);
        if (!limit || round === MAX_ROUNDS) throw error;
        const made = await (limit === 'kept'
          ? this.#makeKept(newcomer, now)
          : this.#makeToken(newcomer, now));
        if (!made) throw error;
      }
    }
  }

  /** Evicts one of the tokens that `takes` says take memory here. False when none may be. */
  async makeMemory(priority: number, now: number, takes: (id: string) => boolean): Promise<boolean> {
    return this.#evictFirst(priority, now, 'memory', takes);
  }

  async #makeToken({ priority, together }: Newcomer, now: number): Promise<boolean> {
    if ((await this.#store.limits()).tokens === 0) return false;
    return this.#evictFirst(priority, now, 'tokens', (id) => !together.has(id));
  }

  async #evictFirst(
    priority: number,
    now: number,
    limit: LimitName,
    helps: (id: string) => boolean,
  ): Promise<boolean> {
    for await (const stored of this.#store.evictionOrder('tokens', now)) {
      const { record } = stored;
      if (!helps(record.id) || !this.#mayGo(record, priority, now)) continue;
      if (await this.#evict(stored, now, limit)) return true;
    }
    return false;
  }

  async #makeKept({ priority, keptBytes, together }: Newcomer, now: number): Promise<boolean> {
    const { keptBytes: limit = 0 } = await this.#store.limits();
    const { keptBytes: used } = await this.#store.usage();
    let missing = used + keptBytes - limit;
    if (keptBytes > limit) return false;
    const victims: StoredToken[] = [];
    for await (const stored of this.#store.evictionOrder('kept', now)) {
      if (missing <= 0) break;
      const group = await this.#group(stored);
      const mayGo = ({ record }: StoredToken): boolean =>
        !together.has(record.id) && this.#mayGo(record, priority, now);
      if (!group.every(mayGo)) continue;
      missing -= stored.record.keptBytes ?? 0;
      // Who carries the charge goes last, so that it need not be passed on.
      victims.push(...group);
    }
    if (missing > 0) return false;
    for (const stored of victims) await this.#evict(stored, now, 'kept');
    return true;
  }

  async #group(carrier: StoredToken): Promise<StoredToken[]> {
    const { keptGroup, id } = carrier.record;
    if (keptGroup === undefined) return [carrier];
    const others: StoredToken[] = [];
    for await (const stored of this.#endings.group(keptGroup))
      if (stored.record.id !== id) others.push(stored);
    return [...others, carrier];
  }

  #mayGo(record: TokenRecord, priority: number, now: number): boolean {
    if (this.#inUse(record.id) || (record.usedUntil ?? 0) >= now) return false;
    return record.leaving === true || this.#isOver(record, now) || (record.priority ?? 0) <= priority;
  }

  #isOver(record: TokenRecord, now: number): boolean {
    return stateOf(record, now, this.#process?.hasEnded) !== 'valid';
  }

  async #evict(stored: StoredToken, now: number, limit: LimitName): Promise<boolean> {
    const state = stateOf(stored.record, now, this.#process?.hasEnded);
    const reason = state === 'valid' ? 'evicted' : state === 'leaving' ? 'revoked' : state;
    const done = await this.#endings.end(stored, reason, reason === 'evicted' ? limit : undefined);
    if (done) this.#hears(stored.record.id, reason);
    if (done && this.#evicted++ % COUNT_EVERY === 0) await this.#forgetSome(now);
    return done;
  }

  async #forgetSome(now: number): Promise<void> {
    let beyond = (await this.#store.usage()).ended - MOST_REMEMBERED;
    if (beyond <= 0) return;
    for await (const { record, revision } of this.#store.evictionOrder('ended', now)) {
      // What was kept for it may not have been given back, if somebody died: sweeping does that.
      if (record.keptPath === undefined) await this.#store.delete(record.id, revision);
      beyond -= 1;
      if (beyond <= 0) return;
    }
  }
}
