/**
 * The token store contract: where a manager keeps what its tokens are bound to.
 *
 * Asynchronous and with revisions, so that a store shared by several processes fits behind it: an update
 * or a delete says which revision it is based on, and does nothing when somebody else was faster.
 */
import type { FileFingerprint } from '../../io/random-access-file.js';
import type { TokenMode } from '../token.js';

/** Times are milliseconds since 1970 UTC. */
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
}

export interface StoredToken {
  record: TokenRecord;
  /** Grows with every change of the record. */
  revision: number;
}

export interface TokenStore {
  get(id: string): Promise<StoredToken | undefined>;
  /** Adds a new record; returns its revision, or undefined when the id is taken. */
  put(record: TokenRecord): Promise<number | undefined>;
  /** Replaces; returns the new revision, or undefined when `revision` is not the current one. */
  update(record: TokenRecord, revision: number): Promise<number | undefined>;
  /** True when the record was there (with that revision, if one is given) and is gone now. */
  delete(id: string, revision?: number): Promise<boolean>;
  /** Every record at some moment between start and end of the walk. */
  list(): AsyncIterable<StoredToken>;
}
