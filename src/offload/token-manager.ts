/**
 * The token manager: binds tokens to file ranges and resolves them again.
 *
 * Invariants: only tokens whose keyed checksum and random value match resolve to data; expiry is an
 * inactivity timer, restarted by every use and stopped while a token is pinned; a change-vulnerable token
 * is refused as soon as its file differs from what it was at binding. Verified Token objects are
 * remembered (they never change), so a resolve costs a lookup and, if change-vulnerable, one fstat.
 *
 * Limits: a change that restores size and both times, or that falls into the same tick of the file
 * system's clock as the binding, can't be noticed. Persistent tokens (the manager keeps the data) are
 * not made here yet.
 */
import { timingSafeEqual } from 'node:crypto';
import { BugError } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import { VhdkitError } from '../base/errors.js';
import type { RandomSource } from '../base/random.js';
import type { ByteRange, FileFingerprint, RandomAccessFile } from '../io/random-access-file.js';
import type { BoundToken, OffloadReadOptions } from './offload-provider.js';
import { MemoryTokenStore } from './store/memory-store.js';
import type { TokenRecord, TokenStore } from './store/token-store.js';
import type { Token, TokenMode } from './token.js';
import {
  CREATOR_ID_BYTES,
  decodeToken,
  encodeToken,
  RANDOM_VALUE_BYTES,
  TOKEN_ID_BYTES,
  type TokenFields,
  ZERO_TOKEN,
} from './token-codec.js';

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
}

/** What a token stands for: a range of an open file, or zeros without end. */
export type ResolvedToken =
  | { kind: 'zero' }
  | { kind: 'data'; file: RandomAccessFile; offset: number; length: number; mode: TokenMode };

type ResolvedData = Extract<ResolvedToken, { kind: 'data' }>;

/** A token bound in this process. */
interface Binding {
  record: TokenRecord;
  revision: number;
  random: Uint8Array;
  resolved: ResolvedData;
  lastUsed: number;
  /** When `lastUsed` last went to the store. */
  stored: number;
  pins: number;
}

const ZERO: ResolvedToken = { kind: 'zero' };

type InvalidReason = 'forged' | 'malformed' | 'unknown' | 'revoked' | 'bound elsewhere';

const INVALID_TEXT: Record<InvalidReason, string> = {
  malformed: 'it is not a token, or it was damaged',
  forged: 'its checksum is wrong: it was altered or made by another manager',
  unknown: 'nothing is bound to it any more',
  revoked: 'it was revoked',
  'bound elsewhere': 'its data is open in another process only',
};

function invalid(reason: InvalidReason): VhdkitError {
  return new VhdkitError('TOKEN_INVALID', `The token is refused: ${INVALID_TEXT[reason]}`, {
    operation: 'resolve token',
    context: { reason },
    hint: 'Read the source anew for a fresh token.',
  });
}

function expired(record: TokenRecord): VhdkitError {
  return new VhdkitError('TOKEN_EXPIRED', `The token for ${record.path} was not used for ${record.ttl} ms`, {
    operation: 'resolve token',
    context: { path: record.path, ttl: record.ttl },
    hint: 'Read the source anew for a fresh token.',
  });
}

function sourceChanged(record: TokenRecord): VhdkitError {
  return new VhdkitError('SOURCE_CHANGED', `${record.path} was changed while it was being read`, {
    operation: 'read source',
    context: { path: record.path, offset: record.offset, length: record.length },
    hint: 'Stop whatever writes to it (a running virtual machine?), or use --snapshot-source where extents can be shared.',
  });
}

function sameFingerprint(a: FileFingerprint, b: FileFingerprint): boolean {
  return (
    a.mtime === b.mtime &&
    a.ctime === b.ctime &&
    a.size === b.size &&
    a.inode === b.inode &&
    a.device === b.device
  );
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

export class TokenManager {
  readonly #clock: Clock;
  readonly #random: RandomSource;
  readonly #store: TokenStore;
  readonly #defaultTtl: number;
  readonly #maxTtl: number;
  readonly #key: Uint8Array;
  readonly #creator: Uint8Array;
  readonly #bindings = new Map<string, Binding>();
  readonly #verified = new WeakMap<Token, Binding>();

  constructor(options: TokenManagerOptions) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#store = options.store ?? new MemoryTokenStore();
    this.#defaultTtl = options.defaultTtl ?? DEFAULT_TTL;
    this.#maxTtl = options.maxTtl ?? MAX_TTL;
    this.#key = options.random.bytes(32);
    this.#creator = options.random.bytes(CREATOR_ID_BYTES);
  }

  /**
   * A token for a range of the file; the range is cut at the file's end. Mode `zero` gives the zero token.
   * @throws OUT_OF_RANGE (starts behind the end), UNSUPPORTED (persistent, or a file without fingerprint)
   */
  async bind(file: RandomAccessFile, range: ByteRange, options: OffloadReadOptions): Promise<BoundToken> {
    const { mode } = options;
    if (mode === 'zero') return { token: ZERO_TOKEN, ...range };
    if (mode === 'persistent') throw persistentUnsupported(file);
    // Taken before the size: a change in between is noticed.
    const fingerprint = mode === 'change-vulnerable' ? takeFingerprint(file) : undefined;
    const length = clipToFile(file, range);
    const now = this.#clock.now();
    const random = this.#random.bytes(RANDOM_VALUE_BYTES);
    const record: Omit<TokenRecord, 'id'> = {
      random: hex(random),
      mode,
      path: file.path,
      offset: range.offset,
      length,
      ttl: Math.min(options.ttl > 0 ? options.ttl : this.#defaultTtl, this.#maxTtl),
      created: now,
      lastUsed: now,
      revoked: false,
      ...(fingerprint ? { fingerprint } : {}),
    };
    const { id, binding } = await this.#remember(record, random, file);
    const token = encodeToken({ mode, id, creator: this.#creator, length, random }, this.#key);
    this.#verified.set(token, binding);
    return { token, offset: range.offset, length };
  }

  /**
   * What the token stands for; counts as a use of it.
   * @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED
   */
  async resolve(token: Token): Promise<ResolvedToken> {
    const binding = this.#verified.get(token) ?? (await this.#verify(token));
    if (!binding) return ZERO;
    if (binding.record.revoked) throw invalid('revoked');
    const now = this.#clock.now();
    if (binding.pins === 0 && now - binding.lastUsed > binding.record.ttl) throw expired(binding.record);
    this.#assertUnchanged(binding);
    binding.lastUsed = now;
    if (now - binding.stored > binding.record.ttl / 4) await this.#touch(binding, now);
    return binding.resolved;
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
   * @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED (names the file)
   */
  async verifyUnchanged(token: Token): Promise<void> {
    await this.resolve(token);
  }

  /** Makes the token useless at once. A token that is not ours is left alone. */
  async revoke(token: Token): Promise<void> {
    const binding = this.#verified.get(token) ?? (await this.#verify(token).catch(() => undefined));
    if (!binding) return;
    binding.record.revoked = true;
    this.#bindings.delete(binding.record.id);
    await this.#store.delete(binding.record.id);
  }

  /** Forgets what has expired. Returns how many tokens that were. */
  async reap(): Promise<number> {
    const now = this.#clock.now();
    let count = 0;
    for await (const { record, revision } of this.#store.list()) {
      const binding = this.#bindings.get(record.id);
      if (binding && binding.pins > 0) continue;
      if (now - Math.max(record.lastUsed, binding?.lastUsed ?? 0) <= record.ttl) continue;
      if (await this.#store.delete(record.id, revision)) count += 1;
      this.#bindings.delete(record.id);
    }
    return count;
  }

  async #remember(
    record: Omit<TokenRecord, 'id'>,
    random: Uint8Array,
    file: RandomAccessFile,
  ): Promise<{ id: Uint8Array; binding: Binding }> {
    // 64 random bits: a second round is all but impossible, a third one means a broken random source.
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const id = this.#random.bytes(TOKEN_ID_BYTES);
      const complete: TokenRecord = { ...record, id: hex(id) };
      const revision = await this.#store.put(complete);
      if (revision === undefined) continue;
      const { offset, length, mode, lastUsed } = complete;
      const resolved: ResolvedData = { kind: 'data', file, offset, length, mode };
      const binding: Binding = {
        record: complete,
        revision,
        random,
        resolved,
        lastUsed,
        stored: lastUsed,
        pins: 0,
      };
      this.#bindings.set(complete.id, binding);
      return { id, binding };
    }
    throw new BugError('the random source repeats itself');
  }

  /** The binding of a token object seen for the first time; undefined for a zero token. */
  async #verify(token: Token): Promise<Binding | undefined> {
    const decoded = decodeToken(token, this.#key);
    if (decoded.kind === 'zero') return undefined;
    if (decoded.kind === 'refused') throw invalid(decoded.reason);
    const binding = this.#bindings.get(hex(decoded.fields.id));
    if (!binding) throw await this.#notBound(decoded.fields);
    if (!timingSafeEqual(binding.random, decoded.fields.random)) throw invalid('forged');
    this.#verified.set(token, binding);
    return binding;
  }

  async #notBound(fields: TokenFields): Promise<VhdkitError> {
    const stored = await this.#store.get(hex(fields.id));
    return invalid(stored ? 'bound elsewhere' : 'unknown');
  }

  #assertUnchanged(binding: Binding): void {
    const { fingerprint } = binding.record;
    if (!fingerprint) return;
    const now = binding.resolved.file.fingerprint();
    if (!now || !sameFingerprint(fingerprint, now)) throw sourceChanged(binding.record);
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

function takeFingerprint(file: RandomAccessFile): FileFingerprint {
  const fingerprint = file.fingerprint();
  if (fingerprint) return fingerprint;
  throw new VhdkitError('UNSUPPORTED', `Changes of ${file.path} can't be noticed`, {
    operation: 'bind token',
    context: { path: file.path },
    hint: 'Ask for a point-in-time token and keep the file from changing.',
  });
}

function persistentUnsupported(file: RandomAccessFile): VhdkitError {
  return new VhdkitError(
    'UNSUPPORTED',
    `No persistent token for ${file.path}: nothing here keeps old data when the file changes`,
    {
      operation: 'bind token',
      context: { path: file.path },
      hint: 'Ask for a change-vulnerable token, which is refused once the file changes.',
    },
  );
}

function clipToFile(file: RandomAccessFile, range: ByteRange): number {
  const size = file.size();
  if (range.offset <= size) return Math.min(range.length, size - range.offset);
  throw new VhdkitError('OUT_OF_RANGE', `${file.path} ends at ${size} bytes`, {
    operation: 'bind token',
    context: { path: file.path, offset: range.offset, length: range.length },
  });
}
