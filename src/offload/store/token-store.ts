/**
 * The token store contract: where a manager keeps what its tokens are bound to.
 *
 * Asynchronous and with revisions, so that a store shared by several processes fits behind it: an update
 * or a delete says which revision it is based on, and does nothing when somebody else was faster. That is
 * how every race is decided, and the only way in which users of one store know of each other.
 *
 * A store holds records, it does not judge them: nothing disappears by itself when its time is over.
 * Whoever sweeps walks with `dueBy` and deletes with the revision it saw, so a token that is used
 * meanwhile stays.
 */
import type { FileFingerprint } from '../../io/random-access-file.js';
import type { TokenMode } from '../token.js';

/** Digits at the beginning of an id that are the time it was made at: what is bound about together lies together. */
export const ID_TIME_DIGITS = 10;

/** The process that a token lives and dies with (io/process-identity.ts says what the names mean). */
export interface TokenOwner {
  host: string;
  pid: number;
  /** What tells the process from a later one with the same id, where the system has such a thing. */
  started?: string;
  /** The owner has to renew this before that moment, or is taken for gone; absent: it need not. */
  until?: number;
}

/** Times are milliseconds since 1970 UTC. Never the token itself: a store's reader can't make one. */
export interface TokenRecord {
  /** The token's id, 16 hexadecimal digits. */
  id: string;
  /** The token's random value, hexadecimal. */
  random: string;
  mode: Exclude<TokenMode, 'zero'>;
  path: string;
  offset: number;
  length: number;
  /** Inactivity time-out in milliseconds. */
  ttl: number;
  created: number;
  lastUsed: number;
  revoked: boolean;
  /** Of a change-vulnerable token. */
  fingerprint?: FileFingerprint;
  /** The start of a system on which the fingerprint's device number means something; absent: not known. */
  system?: string;
  /** When its life ends however much it is used; absent: never. */
  expires?: number;
  /** Tokens of lower priority are evicted first; absent: 0. */
  priority?: number;
  /** Of a persistent token: the file that keeps the data as it was. */
  keptPath?: string;
  /** Of a persistent token: the storage that keeping it may cost. */
  keptBytes?: number;
  /** Of several tokens that share what is kept: the same for all of them. One of them carries `keptBytes`. */
  keptGroup?: string;
  /** Of a close-bound token. */
  owner?: TokenOwner;
  /** Somebody uses it until that moment at least: it is not evicted before. */
  usedUntil?: number;
  /** No new use begins; its time is over when nobody uses it any more. */
  leaving?: boolean;
  /** Whatever else the manager keeps with the token, by its own names. At most 4096 bytes in all. */
  labels?: Record<string, string>;
}

export interface StoredToken {
  record: TokenRecord;
  /** Grows with every change of the record, and over its being deleted and put again. */
  revision: number;
}

export interface WalkOptions {
  /** Only records whose time is over at this moment (see `dueTime`), in milliseconds since 1970 UTC. */
  dueBy?: number;
  /**
   * Only records of files with this number (see `inodeOf`). A record is found by the number that it was put with;
   * updates do not change it.
   */
  inode?: bigint;
}

/** The number of the file that a record dies with; of other records undefined. */
export function inodeOf({ mode, fingerprint }: TokenRecord): bigint | undefined {
  return mode === 'change-vulnerable' ? fingerprint?.inode : undefined;
}

/** Is the record one of those that a walk is for? */
export function isWanted(record: TokenRecord, { dueBy, inode }: WalkOptions): boolean {
  return (
    (dueBy === undefined || dueTime(record) <= dueBy) && (inode === undefined || inodeOf(record) === inode)
  );
}

/** What all who share a store agreed on. What is absent is not limited. */
export interface StoreLimits {
  /** Live tokens. */
  tokens?: number;
  /** Bytes of storage kept for persistent tokens. */
  keptBytes?: number;
  /** Bytes of memory that each manager may take for the tokens it knows; the store only passes it on. */
  memory?: number;
}

export interface StoreUsage {
  /** Live records, and those whose time is over but that nobody swept yet. */
  tokens: number;
  /** Records that ended and are remembered for a while. */
  ended: number;
  keptBytes: number;
}

/** Which records are wanted: live ones, live ones with `keptBytes`, or those that ended. */
export type EvictionOrder = 'tokens' | 'kept' | 'ended';

/**
 * Errors of stores outside the process: TOKEN_STORE_FAILED with `context.reason` (store-errors.ts),
 * PERMISSION_DENIED, NO_SPACE. After one of them a change may or may not have been made; asking again
 * with the same revision is safe, because it then can't be made twice.
 */
export interface TokenStore {
  /** The secret of the keyed checksum, 32 bytes; made by whoever asks first, the same for all ever after. */
  key(): Promise<Uint8Array>;
  get(id: string): Promise<StoredToken | undefined>;
  /**
   * Adds a new record; returns its revision, or undefined when the id is taken.
   * @throws TOKEN_LIMIT when there are as many live ones as the limits allow; decided together with the change,
   *   so that all who share the store together stay within them
   */
  put(record: TokenRecord): Promise<number | undefined>;
  /**
   * Replaces; returns the new revision, or undefined when `revision` is not the current one.
   * @throws TOKEN_LIMIT when `keptBytes` grows beyond the limit; nothing else is ever refused
   */
  update(record: TokenRecord, revision: number): Promise<number | undefined>;
  /** True when the record was there (with that revision, if one is given) and is gone now. */
  delete(id: string, revision?: number): Promise<boolean>;
  /** Every record at some moment between start and end of the walk. */
  list(options?: WalkOptions): AsyncIterable<StoredToken>;
  /** How many records there are; may be off by changes that are under way. */
  count(): Promise<number>;
  /** Counts a refused token: `forged`, `expired`, `revoked`, … At most 64 reasons. */
  countRefusal(reason: string): Promise<void>;
  /** What was counted since the store was made, by everybody who shares it. */
  refusals(): Promise<Record<string, number>>;
  /** What was agreed on; nothing: `{}`. */
  limits(): Promise<StoreLimits>;
  /** Replaces the limits. What is beyond them stays; only nothing is added to it. */
  setLimits(limits: StoreLimits): Promise<void>;
  usage(): Promise<StoreUsage>;
  /** Records in the order in which they make room (limits.ts), as it is at the moment `now`. */
  evictionOrder(order: EvictionOrder, now: number): AsyncIterable<StoredToken>;
  /** Gives back what the store holds open. Nothing may be asked of it afterwards; closing twice is harmless. */
  close(): Promise<void>;
}

/**
 * When a record's time is over if nobody uses it: the earliest of inactivity, absolute expiry, its owner's
 * last sign of life, and the last use of one that is to leave.
 */
export function dueTime(record: TokenRecord, lastUsed = record.lastUsed): number {
  const { ttl, expires, owner, leaving, usedUntil } = record;
  return Math.min(
    lastUsed + ttl,
    expires ?? Number.POSITIVE_INFINITY,
    owner?.until ?? Number.POSITIVE_INFINITY,
    leaving ? (usedUntil ?? 0) : Number.POSITIVE_INFINITY,
  );
}
