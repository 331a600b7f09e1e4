/**
 * What a manager knows of a token while it lives here: the record, the open file, who uses it.
 *
 * Invariant: `resolved` never changes; a record and its revision are what the store had when it was last asked.
 * Not here: when bindings are made, checked or given up (the manager).
 */
import type { RandomAccessFile } from '../io/random-access-file.js';
import { dueTime, type TokenRecord } from './store/token-store.js';
import type { TokenMode } from './token.js';

/** What a token stands for: a range of an open file, or zeros without end. */
export type ResolvedToken =
  | { kind: 'zero' }
  | { kind: 'data'; file: RandomAccessFile; offset: number; length: number; mode: TokenMode };

export type ResolvedData = Extract<ResolvedToken, { kind: 'data' }>;

export type BindingOrigin = 'bound here' | 'bound elsewhere';

/** A token that this process bound, or took up from the store. */
export interface Binding {
  record: TokenRecord;
  revision: number;
  resolved: ResolvedData;
  lastUsed: number;
  /** When `lastUsed` last went to the store. */
  stored: number;
  /** Uses under way in this process. */
  pins: number;
  /** Those of them that the store is told of. */
  leases: number;
  /** `usedUntil` as it was last written here. */
  ownUntil: number;
  /** `usedUntil` as somebody else wrote it last. */
  othersUntil: number;
  /** Whether the manager still has it; one that it gave up is looked at anew. */
  known: boolean;
  /** `lastUsed` when it was queued for being given up. */
  queued: number;
  origin: BindingOrigin;
}

export function makeBinding(
  record: TokenRecord,
  revision: number,
  file: RandomAccessFile,
  origin: BindingOrigin,
): Binding {
  const { offset, length, mode, lastUsed, ttl } = record;
  return {
    record,
    revision,
    resolved: { kind: 'data', file, offset, length, mode },
    origin,
    lastUsed,
    // What others bound is in use from now on, and they are to know it, but for what was bound or used just now.
    stored: origin === 'bound here' ? lastUsed : lastUsed - ttl / 8,
    pins: 0,
    leases: 0,
    ownUntil: 0,
    othersUntil: record.usedUntil ?? 0,
    known: false,
    queued: lastUsed,
  };
}

/** When a token's life ends if it is not used any more. */
export function lifeEnd({ record, lastUsed }: Binding): number {
  return dueTime(record, lastUsed);
}
