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
 * A revoked token can't be resolved any more, by anybody who has not begun to use it; whoever has pinned
 * it may finish. Refused tokens are counted in the store, by reason.
 */
import { timingSafeEqual } from 'node:crypto';
import { BugError } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import { isVhdkitError } from '../base/errors.js';
import type { RandomSource } from '../base/random.js';
import type { ProcessIdentity } from '../io/process-identity.js';
import type { ByteRange, RandomAccessFile } from '../io/random-access-file.js';
import { clipToFile, takeFingerprint } from './bind-checks.js';
import type { BoundToken, OffloadReadOptions } from './offload-provider.js';
import { type PersistentData, persistentUnsupported } from './persistent-data.js';
import { MemoryTokenStore } from './store/memory-store.js';
import { dueTime, type TokenRecord, type TokenStore } from './store/token-store.js';
import type { Token } from './token.js';
import {
  type Binding,
  type BindingOrigin,
  lifeEnd,
  makeBinding,
  type ResolvedToken,
} from './token-binding.js';
import {
  CREATOR_ID_BYTES,
  creatorOf,
  decodeToken,
  encodeToken,
  RANDOM_VALUE_BYTES,
  TOKEN_ID_BYTES,
  type TokenFields,
  ZERO_TOKEN,
} from './token-codec.js';
import { type Afterwards, TokenEndings } from './token-endings.js';
import { assertUnchanged } from './token-fingerprint.js';
import { expired, invalid, refusalReason } from './token-refusal.js';
import { hex, sameSecret, unhex } from './token-secrets.js';
import type { TokenSources } from './token-sources.js';
import { stateOf, type TokenStanding } from './token-standing.js';

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
}

export interface BindOptions extends OffloadReadOptions {
  /** When the token's life ends however much it is used, milliseconds since 1970 UTC. Default: never. */
  expires?: number;
  /** Where others find the file; default: its own path. Absolute, if others are to use the token. */
  path?: string;
}

export type { ResolvedToken } from './token-binding.js';

const ZERO: ResolvedToken = { kind: 'zero' };

export class TokenManager {
  readonly #clock: Clock;
  readonly #random: RandomSource;
  readonly #store: TokenStore;
  readonly #defaultTtl: number;
  readonly #maxTtl: number;
  readonly #key: Uint8Array;
  readonly #creator: Uint8Array;
  readonly #sources: TokenSources | undefined;
  readonly #persistent: PersistentData | undefined;
  readonly #process: ProcessIdentity | undefined;
  readonly #endings: TokenEndings;
  readonly #bindings = new Map<string, Binding>();
  readonly #verified = new WeakMap<Token, Binding>();

  constructor(options: TokenManagerOptions) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#store = options.store ?? new MemoryTokenStore();
    this.#defaultTtl = options.defaultTtl ?? DEFAULT_TTL;
    this.#maxTtl = options.maxTtl ?? MAX_TTL;
    this.#key = options.key ?? options.random.bytes(32);
    this.#creator = options.key ? creatorOf(options.key) : options.random.bytes(CREATOR_ID_BYTES);
    this.#sources = options.sources;
    this.#persistent = options.persistent;
    this.#process = options.process;
    this.#endings = new TokenEndings(this.#store, this.#persistent);
  }

  /**
   * A token for a range of the file; the range is cut at the file's end. Mode `zero` gives the zero token.
   * @throws OUT_OF_RANGE (starts behind the end), UNSUPPORTED (a file without fingerprint; persistent, where
   *   data can't be kept)
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
    const { mode } = options;
    if (mode === 'zero') return ranges.map((range) => ({ token: ZERO_TOKEN, ...range }));
    if (mode === 'persistent') return this.#bindPersistent(file, ranges, options);
    const bound: BoundToken[] = [];
    for (const range of ranges) {
      // Taken before the size: a change in between is noticed.
      const fingerprint = mode === 'change-vulnerable' ? takeFingerprint(file) : undefined;
      const record = this.#newRecord(file, range, mode, options);
      if (fingerprint) record.fingerprint = fingerprint;
      const { id, revision } = await this.#put(record);
      const binding = this.#remember({ ...record, id }, revision, file, 'bound here');
      const token = this.#encode(binding.record);
      this.#verified.set(token, binding);
      bound.push({ token, offset: range.offset, length: record.length });
    }
    return bound;
  }

  /**
   * What the token stands for; counts as a use of it.
   * @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED, and for tokens that others bound PERMISSION_DENIED,
   *   IO_FAILED
   */
  async resolve(token: Token): Promise<ResolvedToken> {
    try {
      const binding = this.#verified.get(token) ?? (await this.#verify(token));
      if (!binding) return ZERO;
      if (binding.record.revoked) throw invalid('revoked');
      const now = this.#clock.now();
      if (binding.pins === 0 && now > lifeEnd(binding)) await this.#assertUsedElsewhere(binding, now);
      this.#assertUnchanged(binding);
      binding.lastUsed = now;
      if (now - binding.stored > binding.record.ttl / 4) await this.#touch(binding, now);
      return binding.resolved;
    } catch (error) {
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
    if (!binding) return () => undefined;
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
    if (binding && binding.pins > 0) this.#assertUnchanged(binding);
    else await this.resolve(token);
  }

  /** Tells the store that pinned tokens are in use, so that nobody takes them for forgotten. Never fails. */
  async keepPinned(): Promise<void> {
    const now = this.#clock.now();
    for (const binding of this.#bindings.values()) {
      if (binding.pins === 0 || now - binding.stored <= binding.record.ttl / 4) continue;
      // Revoked meanwhile, or the store is away: the work goes on either way.
      await this.#touch(binding, now).catch(() => undefined);
    }
  }

  /** Makes the token useless at once, and forgets it. A token that is not ours is left alone. */
  async revoke(token: Token): Promise<void> {
    const id = this.#verified.get(token)?.record.id ?? (await this.inspect(token)).record?.id;
    if (id === undefined) return;
    const binding = this.#bindings.get(id);
    if (binding) binding.record.revoked = true;
    this.#bindings.delete(id);
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
    return { state: stateOf(stored.record, this.#clock.now()), record: stored.record };
  }

  /**
   * Makes a token useless for all who share the store, except for work that has begun, and gives back what
   * was kept for it. `remember`: the store says "revoked" of it, not "unknown", until its time is over.
   * Returns false when nothing is bound to the id.
   */
  async revokeById(id: string, afterwards: Afterwards): Promise<boolean> {
    return this.#endings.revoke(id, afterwards);
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

  #newRecord(
    file: RandomAccessFile,
    range: ByteRange,
    mode: TokenRecord['mode'],
    options: BindOptions,
  ): Omit<TokenRecord, 'id'> {
    const length = clipToFile(file, range);
    const now = this.#clock.now();
    return {
      random: hex(this.#random.bytes(RANDOM_VALUE_BYTES)),
      mode,
      path: options.path ?? file.path,
      offset: range.offset,
      length,
      ttl: Math.min(options.ttl > 0 ? options.ttl : this.#defaultTtl, this.#maxTtl),
      created: now,
      lastUsed: now,
      revoked: false,
      ...(options.expires === undefined ? {} : { expires: options.expires }),
      ...(this.#process?.system === undefined ? {} : { system: this.#process.system }),
    };
  }

  #encode({ mode, id, length, random }: TokenRecord): Token {
    const fields = { mode, id: unhex(id), creator: this.#creator, length, random: unhex(random) };
    return encodeToken(fields, this.#key);
  }

  async #bindPersistent(
    file: RandomAccessFile,
    ranges: readonly ByteRange[],
    options: BindOptions,
  ): Promise<BoundToken[]> {
    const data = this.#persistent;
    if (!data) throw persistentUnsupported(file);
    const bound: BoundToken[] = [];
    let shared: TokenRecord | undefined;
    try {
      for (const range of ranges) {
        const record = this.#newRecord(file, range, 'persistent', options);
        const place = (id: string): string => data.placeFor(record.path, id);
        const { id, revision } = await this.#put(record, place);
        const complete = await data.keep(file, { ...record, id, keptPath: place(id) }, revision, shared);
        shared ??= complete;
        bound.push({ token: this.#encode(complete), offset: range.offset, length: record.length });
      }
      return bound;
    } catch (error) {
      for (const { token } of bound) await this.revoke(token);
      throw error;
    }
  }

  /** Stores a new record under a fresh id. */
  async #put(
    record: Omit<TokenRecord, 'id'>,
    keptPath?: (id: string) => string,
  ): Promise<{ id: string; revision: number }> {
    // 64 random bits: a second round is all but impossible, a third one means a broken random source.
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const id = hex(this.#random.bytes(TOKEN_ID_BYTES));
      const kept = keptPath ? { keptPath: keptPath(id) } : {};
      const revision = await this.#store.put({ ...record, id, ...kept });
      if (revision !== undefined) return { id, revision };
    }
    throw new BugError('the random source repeats itself');
  }

  #remember(record: TokenRecord, revision: number, file: RandomAccessFile, origin: BindingOrigin): Binding {
    const binding = makeBinding(record, revision, file, origin);
    this.#bindings.set(record.id, binding);
    return binding;
  }

  /** The binding of a token object seen for the first time; undefined for a zero token. */
  async #verify(token: Token): Promise<Binding | undefined> {
    const decoded = decodeToken(token, this.#key, this.#creator);
    if (decoded.kind === 'zero') return undefined;
    if (decoded.kind === 'refused') throw invalid(decoded.reason);
    const { fields } = decoded;
    const binding = this.#bindings.get(hex(fields.id)) ?? (await this.#bindAnew(fields));
    if (!timingSafeEqual(binding.random, fields.random)) throw invalid('forged');
    this.#verified.set(token, binding);
    return binding;
  }

  /** Takes up a token that somebody else bound. */
  async #bindAnew(fields: TokenFields): Promise<Binding> {
    const stored = await this.#store.get(hex(fields.id));
    if (!stored) throw invalid('unknown');
    const { record, revision } = stored;
    // First of all: what is said from here on is for the token's holder only.
    if (!sameSecret(record.random, fields.random)) throw invalid('forged');
    const now = this.#clock.now();
    const state = stateOf(record, now);
    if (state === 'revoked') throw invalid('revoked');
    if (state === 'expired') throw expired(record, now);
    if (!this.#sources) throw invalid('bound elsewhere');
    const file = await this.#sources.open(record);
    return this.#remember(record, revision, file, 'bound elsewhere');
  }

  #assertUnchanged(binding: Binding): void {
    assertUnchanged(binding, this.#process?.system);
  }

  /** Of a token whose time seems to be over: others who use it keep it alive, and only the store knows. */
  async #assertUsedElsewhere(binding: Binding, now: number): Promise<void> {
    const stored = await this.#store.get(binding.record.id);
    if (!stored || now > dueTime(stored.record)) throw expired(binding.record, now);
    if (stored.record.revoked) {
      binding.record.revoked = true;
      throw stateOf(stored.record, now) === 'expired' ? expired(binding.record, now) : invalid('revoked');
    }
    binding.record = stored.record;
    binding.revision = stored.revision;
  }

  /** Counts a refusal in the store; work does not depend on that. */
  async #counted(error: unknown): Promise<unknown> {
    const reason = isVhdkitError(error) ? refusalReason(error) : undefined;
    if (reason) await this.#store.countRefusal(reason).catch(() => undefined);
    return error;
  }

  /** Tells the store about the use, now and then: reaping elsewhere must not take a token that is in use. */
  async #touch(binding: Binding, now: number): Promise<void> {
    binding.stored = now;
    const updated = { ...binding.record, lastUsed: now };
    const revision = await this.#store.update(updated, binding.revision);
    if (revision !== undefined) {
      binding.revision = revision;
      binding.record = updated;
      return;
    }
    const stored = await this.#store.get(binding.record.id);
    if (!stored || stored.record.revoked) {
      binding.record.revoked = true;
      throw invalid('revoked');
    }
    binding.revision = stored.revision;
  }
}
