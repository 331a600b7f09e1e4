/**
 * The token manager: binds tokens to file ranges and resolves them again.
 *
 * Invariants: only tokens whose keyed checksum and random value match resolve to data; expiry is an
 * inactivity timer, restarted by every use and stopped while a token is pinned, and an absolute time; a
 * token is refused as soon as its file differs from what it was at binding (of a persistent one: the file
 * that keeps its data). Verified Token objects are remembered (they never change), so a resolve costs a
 * lookup and, if change-vulnerable, one fstat. Tokens that another process bound are looked up in the
 * store once, and their files opened anew.
 *
 * A token that ended can't be resolved any more by anybody who has not begun to use it; whoever has pinned
 * it may finish. What is in use is not evicted and does not expire. Refused tokens are counted in the store,
 * by reason.
 *
 * Its parts: token-maker.ts (records and their 512 bytes), token-bindings.ts (what is known here, and its
 * memory), token-renewal.ts (what is told to the store), token-room.ts (limits), token-endings.ts, close-bound.ts.
 */
import { createSecretKey, type KeyObject } from 'node:crypto';
import { BugError } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import { isVhdkitError } from '../base/errors.js';
import type { RandomSource } from '../base/random.js';
import type { ProcessIdentity } from '../io/process-identity.js';
import type { ByteRange, RandomAccessFile } from '../io/random-access-file.js';
import { takeFingerprint } from './bind-checks.js';
import { CloseBound } from './close-bound.js';
import type { BoundToken } from './offload-provider.js';
import type { PersistentData } from './persistent-data.js';
import { MemoryTokenStore } from './store/memory-store.js';
import { storeError } from './store/store-errors.js';
import type { TokenRecord, TokenStore } from './store/token-store.js';
import type { Token } from './token.js';
import {
  type Binding,
  type BindingOrigin,
  lifeEnd,
  makeBinding,
  type ResolvedToken,
} from './token-binding.js';
import { Bindings } from './token-bindings.js';
import { CREATOR_ID_BYTES, creatorOf, decodeToken, type TokenFields, ZERO_TOKEN } from './token-codec.js';
import { type Afterwards, TokenEndings } from './token-endings.js';
import { assertStillUnchanged } from './token-fingerprint.js';
import { type BindOptions, TokenMaker } from './token-maker.js';
import { ended, invalid, refusalReason } from './token-refusal.js';
import { LEASE, TokenRenewal } from './token-renewal.js';
import { TokenRoom } from './token-room.js';
import { hex, sameSecret } from './token-secrets.js';
import type { TokenSources } from './token-sources.js';
import { type EndReason, endedAs, stateOf, type TokenStanding } from './token-standing.js';

const DEFAULT_TTL = 60_000;
const MAX_TTL = 24 * 3_600_000;

export interface TokenManagerOptions {
  clock: Clock;
  random: RandomSource;
  store?: TokenStore;
  /** Inactivity time-out in milliseconds for tokens bound without one. */
  defaultTtl?: number;
  /** Longer time-outs are cut to this. */
  maxTtl?: number;
  /**
   * The store's secret (`TokenStore.key`): makes tokens that all who share the store understand. Default: a
   * random one, and tokens die with this object.
   */
  key?: Uint8Array;
  /** Opens the files of tokens that others bound. Default: such tokens are refused. */
  sources?: TokenSources;
  /** Keeps the data of persistent tokens. Default: they are refused. */
  persistent?: PersistentData;
  /** Who this process is, for tokens that others are to use. */
  process?: ProcessIdentity;
  /** Memory in bytes that the tokens known here may take, estimated; default: no limit. */
  maxMemory?: number;
}

/** A token that is in use, and that the store knows to be. */
export interface TokenUse {
  resolved: ResolvedToken;
  end(): void;
}

export type { ResolvedToken } from './token-binding.js';
export type { BindOptions } from './token-maker.js';

const ZERO: ResolvedToken = { kind: 'zero' };

export class TokenManager {
  readonly #clock: Clock;
  readonly #store: TokenStore;
  readonly #key: KeyObject;
  readonly #creator: Uint8Array;
  readonly #sources: TokenSources | undefined;
  readonly #process: ProcessIdentity | undefined;
  readonly #endings: TokenEndings;
  readonly #room: TokenRoom;
  readonly #renewal: TokenRenewal;
  readonly #maker: TokenMaker;
  readonly #closeBound: CloseBound;
  readonly #bindings: Bindings;
  readonly #verified = new WeakMap<Token, Binding>();

  constructor(options: TokenManagerOptions) {
    const { clock, random, persistent, process, store = new MemoryTokenStore() } = options;
    const { key: secret = random.bytes(32), defaultTtl = DEFAULT_TTL, maxTtl = MAX_TTL } = options;
    const key = createSecretKey(secret);
    const creator = options.key ? creatorOf(secret) : random.bytes(CREATOR_ID_BYTES);
    const endings = new TokenEndings(store, persistent);
    const inUse = (id: string): boolean => (this.#bindings.get(id)?.pins ?? 0) > 0;
    const room = new TokenRoom(store, endings, process, inUse, (id, reason) => this.#forget(id, reason));
    const common = { clock, random, store, persistent, process, endings, room };
    this.#clock = clock;
    this.#store = store;
    this.#key = key;
    this.#creator = creator;
    this.#sources = options.sources;
    this.#process = process;
    this.#endings = endings;
    this.#room = room;
    this.#renewal = new TokenRenewal(store);
    this.#maker = new TokenMaker({ ...common, key, creator, defaultTtl, maxTtl });
    this.#closeBound = new CloseBound(store, endings);
    this.#bindings = new Bindings(options.maxMemory);
  }

  /** Estimated bytes of memory that the tokens known here take. */
  get memoryUsed(): number {
    return this.#bindings.bytes;
  }

  /**
   * A token for a range of the file; the range is cut at the file's end. Mode `zero` gives the zero token.
   * @throws OUT_OF_RANGE (starts behind the end), UNSUPPORTED (a file without fingerprint; persistent, where
   *   data can't be kept), TOKEN_LIMIT (no room, and nothing may be evicted)
   */
  async bind(file: RandomAccessFile, range: ByteRange, options: BindOptions): Promise<BoundToken> {
    const [bound] = await this.bindAll(file, [range], options);
    if (!bound) throw new BugError('no token for a range');
    return bound;
  }

  /** The same for several ranges of a file. Persistent tokens bound together stand for the same moment. */
  async bindAll(
    file: RandomAccessFile,
    ranges: readonly ByteRange[],
    options: BindOptions,
  ): Promise<BoundToken[]> {
    const { mode, together = new Set<string>() } = options;
    if (mode === 'zero') return ranges.map((range) => ({ token: ZERO_TOKEN, ...range }));
    const bound: BoundToken[] = [];
    try {
      if (mode === 'persistent') {
        const records = await this.#maker.persistent(file, ranges, { ...options, together });
        for (const record of records) bound.push(this.#handOut(file, record, options));
      } else {
        for (const range of ranges) bound.push(await this.#bindOne(file, range, mode, together, options));
      }
      return bound;
    } catch (error) {
      // All or none. The error says what is wrong; what can't be taken back now expires.
      for (const { token } of bound) await this.revoke(token).catch(() => undefined);
      const isLimit = isVhdkitError(error) && error.code === 'TOKEN_LIMIT';
      throw isLimit ? await this.#counted(error) : error;
    }
  }

  async #bindOne(
    file: RandomAccessFile,
    range: ByteRange,
    mode: 'change-vulnerable' | 'point-in-time',
    together: Set<string>,
    options: BindOptions,
  ): Promise<BoundToken> {
    const fingerprint = mode === 'change-vulnerable' ? takeFingerprint(file) : undefined;
    const record = this.#maker.record(file, range, mode, options, fingerprint);
    const revision = await this.#maker.put(record, together);
    const binding = await this.#remember(makeBinding(record, revision, file, 'bound here'));
    const bound = this.#handOut(file, record, options);
    this.#verified.set(bound.token, binding);
    return bound;
  }

  #handOut(file: RandomAccessFile, record: TokenRecord, { closeBound }: BindOptions): BoundToken {
    if (closeBound) this.#closeBound.add(file, record.id, this.#clock.now());
    const { offset, length } = record;
    return { token: this.#maker.encode(record), offset, length };
  }

  /**
   * What the token stands for; counts as a use of it.
   * @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED, and for tokens that others bound PERMISSION_DENIED,
   *   IO_FAILED
   */
  async resolve(token: Token): Promise<ResolvedToken> {
    try {
      const binding = await this.#usable(token);
      if (!binding) return ZERO;
      const now = this.#clock.now();
      binding.lastUsed = now;
      if (this.#renewal.isDue(binding, now)) await this.#renewal.renew(binding, now, binding.pins === 0);
      return binding.resolved;
    } catch (error) {
      throw await this.#counted(error);
    }
  }

  /**
   * Resolves the token and tells the store that it is in use until `end` is called: until then nobody evicts it,
   * here or elsewhere. Work that takes longer than a few seconds calls `keepPinned` now and then.
   * @throws as `resolve`
   */
  async begin(token: Token): Promise<TokenUse> {
    let release = (): void => undefined;
    try {
      const binding = await this.#usable(token);
      if (!binding) return { resolved: ZERO, end: release };
      const fresh = binding.pins === 0;
      const unpin = this.#pin(binding);
      let leased = true;
      binding.leases += 1;
      release = () => {
        if (leased) binding.leases -= 1;
        leased = false;
        unpin();
      };
      if (this.#sources) await this.#renewal.renew(binding, this.#clock.now(), fresh);
      return { resolved: binding.resolved, end: release };
    } catch (error) {
      release();
      throw await this.#counted(error);
    }
  }

  /** Resolves the token and keeps it from expiring until `work` has ended. */
  async use<T>(token: Token, work: (resolved: ResolvedToken) => Promise<T>): Promise<T> {
    const resolved = await this.resolve(token);
    const unpin = this.pin(token);
    try {
      return await work(resolved);
    } finally {
      unpin();
    }
  }

  /** Keeps a token that was bound or resolved here from expiring until the returned function is called. */
  pin(token: Token): () => void {
    const binding = this.#verified.get(token);
    return binding ? this.#pin(binding) : () => undefined;
  }

  #pin(binding: Binding): () => void {
    binding.pins += 1;
    let pinned = true;
    return () => {
      if (!pinned) return;
      pinned = false;
      binding.pins -= 1;
      binding.lastUsed = this.#clock.now();
    };
  }

  /**
   * Makes sure that the data was the same all the time since binding, as far as the token's mode promises.
   * Of a pinned token nothing else is asked: what began may end, although it was revoked meanwhile.
   * @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED (names the file)
   */
  async verifyUnchanged(token: Token): Promise<void> {
    const binding = this.#verified.get(token);
    if (binding && binding.pins > 0) await this.#assertStillUnchanged(binding);
    else await this.resolve(token);
  }

  /**
   * Tells the store that pinned tokens are in use, so that nobody takes them for forgotten, and that whoever
   * holds close-bound ones still is there. Never fails: revoked meanwhile, or the store away, work goes on.
   */
  async keepPinned(): Promise<void> {
    const now = this.#clock.now();
    for (const binding of this.#bindings.values()) {
      if (binding.pins > 0 && this.#renewal.isDue(binding, now))
        await this.#renewal.renew(binding, now, false).catch(() => undefined);
    }
    await this.#closeBound.renew(now).catch(() => undefined);
  }

  /** Tells the store of the uses that have ended (`begin`), so that others need not wait. Never fails. */
  async giveBackUses(): Promise<void> {
    const now = this.#clock.now();
    for (const binding of this.#bindings.values())
      if (binding.ownUntil > 0) await this.#renewal.giveBack(binding, now).catch(() => undefined);
  }

  /**
   * How one of the tokens that are in use here (`begin`) ended meanwhile, by what the store says; undefined while
   * all live. What has begun may go on nevertheless.
   */
  async endedInUse(): Promise<EndReason | undefined> {
    const now = this.#clock.now();
    for (const binding of this.#bindings.values()) {
      const end = binding.leases > 0 ? await this.#renewal.endOf(binding, now) : undefined;
      if (end) return end;
    }
    return undefined;
  }

  /** Ends the close-bound tokens of a file (default: of all files), because it is closed. Returns their ids. */
  async closeFile(file?: RandomAccessFile): Promise<string[]> {
    const ids = await this.#closeBound.end(file);
    for (const id of ids) this.#forget(id, 'closed');
    return ids;
  }

  /** Makes the token useless at once, and forgets it. A token that is not ours is left alone. */
  async revoke(token: Token): Promise<void> {
    const id = this.#verified.get(token)?.record.id ?? (await this.inspect(token)).record?.id;
    if (id === undefined) return;
    const binding = this.#bindings.get(id);
    this.#forget(id, 'revoked');
    if (binding && binding.record.keptPath === undefined) await this.#store.delete(id);
    else await this.revokeById(id, 'forget');
  }

  /**
   * What the store knows of a token, without using it and without opening anything. Only whoever has the
   * token learns its record.
   */
  async inspect(token: Token): Promise<TokenStanding> {
    const decoded = decodeToken(token, this.#key, this.#creator);
    if (decoded.kind === 'zero') return { state: 'valid' };
    if (decoded.kind === 'refused') return { state: decoded.reason };
    const stored = await this.#store.get(hex(decoded.fields.id));
    if (!stored) return { state: 'unknown' };
    if (!sameSecret(stored.record.random, decoded.fields.random)) return { state: 'forged' };
    const state = stateOf(stored.record, this.#clock.now(), this.#process?.hasEnded);
    return { state, record: stored.record };
  }

  /**
   * Revocation as an order: makes a token useless for all who share the store, except for work that has begun,
   * and gives back what was kept for it. `remember`: the store says "revoked" of it, not "unknown", until its
   * time is over. Returns false when nothing is bound to the id.
   */
  async revokeById(id: string, afterwards: Afterwards): Promise<boolean> {
    return this.#endings.revoke(id, afterwards);
  }

  /**
   * Revocation as a hint: nobody begins to use the token any more, and it ends once nobody uses it, or first of
   * all when room is needed.
   */
  async hintById(id: string): Promise<'revoked' | 'leaving' | 'ended'> {
    const here = (this.#bindings.get(id)?.pins ?? 0) > 0;
    return this.#endings.hint(id, this.#clock.now(), here ? LEASE : 0);
  }

  /**
   * Forgets what has expired and gives back what was kept for it. Returns how many tokens that were.
   * @param rememberFor milliseconds after their end for which the store goes on saying what became of them
   */
  async reap(rememberFor = 0): Promise<number> {
    const now = this.#clock.now();
    const inUse = (id: string): boolean => {
      const binding = this.#bindings.get(id);
      return binding !== undefined && (binding.pins > 0 || now <= lifeEnd(binding));
    };
    return this.#endings.reap(now, rememberFor, inUse, (id) => this.#bindings.delete(id));
  }

  #forget(id: string, reason: EndReason): void {
    const binding = this.#bindings.get(id);
    if (binding) binding.record = endedAs(binding.record, reason);
    this.#bindings.delete(id);
  }

  /** Adds a binding, within the limit for memory. @throws TOKEN_LIMIT (`memory-limit`), then its token is gone */
  async #remember(binding: Binding): Promise<Binding> {
    const { record, origin } = binding;
    this.#bindings.add(binding);
    binding.pins += 1;
    try {
      const restorable = (one: Binding): boolean => one.record.fingerprint !== undefined;
      const takes = (id: string): boolean => this.#bindings.get(id) !== undefined;
      const small = (): boolean => this.#bindings.shrink(this.#sources ? restorable : () => false);
      while (!small()) {
        if (await this.#room.makeMemory(record.priority ?? 0, this.#clock.now(), takes)) continue;
        this.#bindings.delete(record.id);
        if (origin === 'bound here') await this.#endings.revoke(record.id, 'forget');
        throw storeError('memory-limit', 'of this process', 'its tokens take all the memory they may');
      }
    } finally {
      binding.pins -= 1;
    }
    return binding;
  }

  /** The binding of a token that may be used now; undefined for a zero token. */
  async #usable(token: Token): Promise<Binding | undefined> {
    let binding = this.#verified.get(token);
    if (!binding?.known && !binding?.record.revoked) binding = await this.#verify(token, binding);
    if (!binding) return undefined;
    const { record } = binding;
    const now = this.#clock.now();
    const state = record.revoked ? stateOf(record, now) : 'valid';
    if (state !== 'valid') throw ended(record, state, now);
    if (binding.pins === 0) {
      if (record.owner && binding.origin === 'bound elsewhere') await this.#assertOwnerThere(binding);
      if (record.leaving || now > lifeEnd(binding)) await this.#assertAlive(binding, now);
    }
    const seen = binding.record;
    await this.#assertStillUnchanged(binding);
    // The store was asked: what else it said counts as well.
    return binding.record === seen ? binding : this.#usable(token);
  }

  #assertStillUnchanged(binding: Binding): Promise<void> {
    return assertStillUnchanged(binding, this.#process?.system, (one) => this.#renewal.look(one));
  }

  /**
   * The binding of a token object seen for the first time, or whose binding was given up to save memory;
   * undefined for a zero token.
   */
  async #verify(token: Token, former: Binding | undefined): Promise<Binding | undefined> {
    const decoded = decodeToken(token, this.#key, this.#creator);
    if (decoded.kind === 'zero') return undefined;
    if (decoded.kind === 'refused') throw invalid(decoded.reason);
    const { fields } = decoded;
    // Its file is open, and its token's holder may still be using it.
    const binding =
      this.#bindings.get(hex(fields.id)) ??
      (former ? await this.#remember(former) : await this.#takeUp(fields));
    if (!sameSecret(binding.record.random, fields.random)) throw invalid('forged');
    this.#verified.set(token, binding);
    return binding;
  }

  /** Takes up a token that somebody else bound. */
  async #takeUp(fields: TokenFields): Promise<Binding> {
    const stored = await this.#store.get(hex(fields.id));
    if (!stored) throw invalid('unknown');
    const { record, revision } = stored;
    // First of all: what is said from here on is for the token's holder only.
    if (!sameSecret(record.random, fields.random)) throw invalid('forged');
    const now = this.#clock.now();
    const state = stateOf(record, now, this.#process?.hasEnded);
    // Nobody else may be there to say so.
    if (state === 'closed' && !record.revoked) await this.#endings.end(stored, 'closed');
    if (state !== 'valid') throw ended(record, state, now);
    if (!this.#sources) throw invalid('bound elsewhere');
    const file = await this.#sources.open(record);
    const origin: BindingOrigin = 'bound elsewhere';
    // Somebody may have been faster while the file was opened.
    return this.#bindings.get(record.id) ?? this.#remember(makeBinding(record, revision, file, origin));
  }

  async #assertOwnerThere(binding: Binding): Promise<void> {
    const { owner, id } = binding.record;
    if (!owner || !this.#process?.hasEnded(owner)) return;
    this.#forget(id, 'closed');
    await this.#endings.revoke(id, 'remember', 'closed');
    throw invalid('closed');
  }

  async #assertAlive(binding: Binding, now: number): Promise<void> {
    try {
      await this.#renewal.assertAlive(binding, now);
    } catch (error) {
      this.#bindings.delete(binding.record.id);
      throw error;
    }
  }

  /** Counts a refusal in the store; work does not depend on that. */
  async #counted(error: unknown): Promise<unknown> {
    const reason = isVhdkitError(error) ? refusalReason(error) : undefined;
    if (reason) await this.#store.countRefusal(reason).catch(() => undefined);
    return error;
  }
}
