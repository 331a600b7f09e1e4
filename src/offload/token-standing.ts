/**
 * How a token stands: alive, or how its life ended.
 *
 * A token that ended may stay in its store for a while, so that its holder learns why it is refused.
 */
import { dueTime, type TokenRecord } from './store/token-store.js';

export type TokenState = 'valid' | 'expired' | 'revoked';

/** What is known of a token; `record` only where it was proved to be genuine. */
export interface TokenStanding {
  state: TokenState | 'unknown' | 'forged' | 'foreign' | 'malformed';
  record?: TokenRecord;
}

/** What is changed in a record whose time is over: nobody can renew it any more. */
export const ENDED = { revoked: true, labels: { ended: 'expired' } } as const;

export function stateOf(record: TokenRecord, now: number): TokenState {
  if (record.revoked) return record.labels?.ended === 'expired' ? 'expired' : 'revoked';
  return now > dueTime(record) ? 'expired' : 'valid';
}
