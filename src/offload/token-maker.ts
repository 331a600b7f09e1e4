/**
 * Makes tokens: their records, stored under fresh ids within the store's limits, and their 512 bytes.
 *
 * Invariant: a token is handed out only once its record is in the store and complete.
 */
import { BugError } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import type { RandomSource } from '../base/random.js';
import type { ProcessIdentity } from '../io/process-identity.js';
import type { ByteRange, FileFingerprint, RandomAccessFile } from '../io/random-access-file.js';
import { clipToFile } from './bind-checks.js';
import type { OffloadReadOptions } from './offload-provider.js';
import { type PersistentData, persistentUnsupported } from './persistent-data.js';
import { ID_TIME_DIGITS, type TokenRecord, type TokenStore } from './store/token-store.js';
import type { Token } from './token.js';
import { encodeToken, RANDOM_VALUE_BYTES, TOKEN_ID_BYTES, type TokenKey } from './token-codec.js';
import type { TokenEndings } from './token-endings.js';
import type { TokenRoom } from './token-room.js';
import { hex, unhex } from './token-secrets.js';

/** Milliseconds after which an owner that gave no sign of life is taken for gone by other hosts. */
export const OWNER_TTL = 30_000;

export interface BindOptions extends OffloadReadOptions {
  /** When the token's life ends however much it is used, milliseconds since 1970 UTC. Default: never. */
  expires?: number;
  /** Where others find the file; default: its own path. Absolute, if others are to use the token. */
  path?: string;
  /** Tokens of lower priority are evicted first, and never for one of still lower priority. Default 0. */
  priority?: number;
  /**
   * The token ends with `TokenManager.closeFile`, or when this process ends. Others on this host notice that at
   * once, other hosts after 30 seconds without a sign of life (`TokenManager.keepPinned`).
   */
  closeBound?: boolean;
  /** Collects the ids of tokens that belong together: none of them is evicted to make room for another. */
  together?: Set<string>;
}

export interface MakerParts {
  clock: Clock;
  random: RandomSource;
  store: TokenStore;
  endings: TokenEndings;
  room: TokenRoom;
  key: TokenKey;
  creator: Uint8Array;
  defaultTtl: number;
  maxTtl: number;
  persistent: PersistentData | undefined;
  process: ProcessIdentity | undefined;
}

/**
 * Tokens' ids: the time in steps of 16 ms, then 24 random bits. So what is bound one after the other lies together in
 * a store, which then changes the same few pages over and over. Ids are no secret.
 */
class Ids {
  readonly #random: RandomSource;
  #step = Number.NaN;
  #text = '';

  constructor(random: RandomSource) {
    this.#random = random;
  }

  next(now: number): string {
    const step = Math.floor(now / 16) % 16 ** ID_TIME_DIGITS;
    if (step !== this.#step) {
      this.#step = step;
      this.#text = step.toString(16).padStart(ID_TIME_DIGITS, '0');
    }
    return this.#text + hex(this.#random.bytes(TOKEN_ID_BYTES - ID_TIME_DIGITS / 2));
  }
}

export class TokenMaker {
  readonly #parts: MakerParts;
  readonly #ids: Ids;

  constructor(parts: MakerParts) {
    this.#parts = parts;
    this.#ids = new Ids(parts.random);
  }

  /**
   * A record that has no id yet: `put` gives it one.
   * @param fingerprint of a token that dies with its file: taken before anything else is asked of it
   * @throws OUT_OF_RANGE
   */
  record(
    file: RandomAccessFile,
    range: ByteRange,
    mode: TokenRecord['mode'],
    options: BindOptions,
    fingerprint?: FileFingerprint,
  ): TokenRecord {
    const { clock, random, process, defaultTtl, maxTtl } = this.#parts;
    const { ttl, path = file.path, expires, priority = 0, closeBound = false } = options;
    const length = clipToFile(file, range, fingerprint);
    const now = clock.now();
    const record: TokenRecord = {
      id: '',
      random: hex(random.bytes(RANDOM_VALUE_BYTES)),
      mode,
      path,
      offset: range.offset,
      length,
      ttl: Math.min(ttl > 0 ? ttl : defaultTtl, maxTtl),
      created: now,
      lastUsed: now,
      revoked: false,
    };
    if (fingerprint) record.fingerprint = fingerprint;
    if (expires !== undefined) record.expires = expires;
    if (priority !== 0) record.priority = priority;
    if (process?.system !== undefined) record.system = process.system;
    if (closeBound && process) record.owner = { ...process.self, until: now + OWNER_TTL };
    return record;
  }

  /**
   * Stores a record under a fresh id, which it is given, and which is added to those it belongs to. Returns its revision.
   * @throws TOKEN_LIMIT
   */
  async put(
    record: TokenRecord,
    together: Set<string>,
    more?: (id: string) => Partial<TokenRecord>,
  ): Promise<number> {
    const { clock, store, room } = this.#parts;
    const newcomer = { priority: record.priority ?? 0, keptBytes: 0, together };
    // A second round is rare, a third one all but impossible: a fourth would mean a broken random source.
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const now = clock.now();
      record.id = this.#ids.next(now);
      if (more) Object.assign(record, more(record.id));
      const revision = await room.admit(newcomer, now, () => store.put(record));
      if (revision === undefined) continue;
      together.add(record.id);
      return revision;
    }
    throw new BugError('the random source repeats itself');
  }

  /**
   * Stores records of persistent tokens, and keeps the data that they all stand for. All or none.
   * @throws UNSUPPORTED, NO_SPACE, TOKEN_LIMIT, PERMISSION_DENIED, OUT_OF_RANGE, IO_FAILED
   */
  async persistent(
    file: RandomAccessFile,
    ranges: readonly ByteRange[],
    options: BindOptions,
  ): Promise<TokenRecord[]> {
    const { clock, persistent, endings, room } = this.#parts;
    if (!persistent) throw persistentUnsupported(file);
    const made: TokenRecord[] = [];
    const { priority = 0, together = new Set<string>() } = options;
    try {
      for (const range of ranges) {
        const record = this.record(file, range, 'persistent', options);
        const [first] = made;
        const revision = await this.put(record, together, (id) => ({
          keptPath: persistent.placeFor(record.path, id),
          ...(ranges.length === 1 ? {} : { keptGroup: first?.id ?? id }),
        }));
        const { keptPath = '' } = record;
        const complete = await persistent.keep(
          file,
          { ...record, keptPath },
          revision,
          first,
          (keptBytes, change) => room.admit({ priority, keptBytes, together }, clock.now(), change),
        );
        made.push(complete);
      }
      return made;
    } catch (error) {
      for (const { id } of made.reverse()) await endings.revoke(id, 'forget');
      throw error;
    }
  }

  encode({ mode, id, length, random }: TokenRecord): Token {
    const { creator, key } = this.#parts;
    return encodeToken({ mode, id: unhex(id), creator, length, random: unhex(random) }, key);
  }
}
