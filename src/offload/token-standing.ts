/**
 * How a token stands: alive, or how its life ended.
 *
 * A token that ended may stay in its store for a while, so that its holder learns why it is refused.
 */
import { dueTime, type TokenOwner, type TokenRecord } from './store/token-store.js';

/** `evicted`: it made room for others. `closed`: what it was bound to was closed, or its owner is gone. */
export type EndReason = 'revoked' | 'expired' | 'evicted' | 'closed';

/** `leaving`: nobody may begin to use it any more; it ends with the last of those who do. */
export type TokenState = 'valid' | 'leaving' | EndReason;

/** For which limit room was made. */
export type LimitName = 'tokens' | 'kept' | 'memory';

/** What is known of a token; `record` only where it was proved to be genuine. */
export interface TokenStanding {
  state: TokenState | 'unknown' | 'forged' | 'foreign' | 'malformed';
  record?: TokenRecord;
}

const END_REASONS: readonly string[] = ['expired', 'evicted', 'closed'];

/** The record of a token whose life ends now: nobody can renew it any more. */
export function endedAs(record: TokenRecord, reason: EndReason, limit?: LimitName): TokenRecord {
  const why = { ended: reason, ...(limit ? { limit } : {}) };
  return { ...record, revoked: true, labels: { ...record.labels, ...why } };
}

/** The limit that an evicted token made room for. */
export function limitOf({ labels }: TokenRecord): string | undefined {
  return labels?.ended === 'evicted' ? labels.limit : undefined;
}

function overAs({ owner, leaving, lastUsed, ttl, expires }: TokenRecord, now: number): EndReason {
  if (leaving) return 'revoked';
  const expired = now > lastUsed + ttl || (expires !== undefined && now > expires);
  return owner && !expired ? 'closed' : 'expired';
}

/** @param hasEnded says for certain that an owner's process has ended; without it only time tells */
export function stateOf(
  record: TokenRecord,
  now: number,
  hasEnded?: (owner: TokenOwner) => boolean,
): TokenState {
  if (record.revoked) {
    const ended = record.labels?.ended ?? '';
    return END_REASONS.includes(ended) ? (ended as EndReason) : 'revoked';
  }
  if (record.owner && hasEnded?.(record.owner)) return 'closed';
  if (now > dueTime(record)) return overAs(record, now);
  return record.leaving ? 'leaving' : 'valid';
}
