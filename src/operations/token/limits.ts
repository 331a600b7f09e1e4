/**
 * `token limits`: what all who share a store agreed on, and how much of it is in use.
 *
 * Limits lie in the store, so that every process and host that uses it keeps them. Lowering one evicts nothing
 * by itself: room is made when the next token needs it.
 */
import { VhdkitError } from '../../base/errors.js';
import type { StoreLimits, TokenStore } from '../../offload/store/token-store.js';
import type { Host } from '../host.js';
import { type StoreChoice, withTokens } from './store.js';

/** Null takes a limit away; what is not named stays as it is. */
export interface LimitsChange {
  /** Live tokens. */
  tokens?: number | null;
  /** Bytes of storage kept for persistent tokens. */
  keptBytes?: number | null;
  /** Bytes of memory that each process may take for the tokens it knows. */
  memory?: number | null;
}

export interface TokenLimitsOptions {
  change?: LimitsChange;
  store?: StoreChoice;
}

/** How much of a limit is in use; `limit` null: there is none. */
export interface ShownLimit {
  used: number;
  limit: number | null;
}

export interface ShownLimits {
  tokens: ShownLimit;
  keptBytes: ShownLimit;
  /** Of every process for itself. */
  memory: { limit: number | null };
}

/** Room for some tokens; less would be of no use. */
const LEAST_MEMORY = 64 * 1024;

export async function shownLimits(store: TokenStore): Promise<ShownLimits> {
  const { tokens, keptBytes, memory } = await store.limits();
  const used = await store.usage();
  return {
    tokens: { used: used.tokens, limit: tokens ?? null },
    keptBytes: { used: used.keptBytes, limit: keptBytes ?? null },
    memory: { limit: memory ?? null },
  };
}

/**
 * Changes the limits of a store if a change is given, and tells what they are.
 * @throws INVALID_ARGUMENT, TOKEN_STORE_FAILED
 */
export async function tokenLimits(
  host: Host,
  { change = {}, store }: TokenLimitsOptions,
): Promise<ShownLimits> {
  assertSensible(change);
  return withTokens(host, store, async (tokens) => {
    if (Object.keys(change).length > 0) {
      const limits: StoreLimits = await tokens.store.limits();
      for (const name of ['tokens', 'keptBytes', 'memory'] as const) {
        const value = change[name];
        if (value === null) delete limits[name];
        else if (value !== undefined) limits[name] = value;
      }
      await tokens.store.setLimits(limits);
    }
    return shownLimits(tokens.store);
  });
}

function assertSensible({ tokens, keptBytes, memory }: LimitsChange): void {
  const sound = [tokens, keptBytes, memory].every(
    (value) => value === undefined || value === null || (Number.isSafeInteger(value) && value >= 0),
  );
  const little = typeof memory === 'number' && memory < LEAST_MEMORY;
  if (sound && !little) return;
  throw new VhdkitError('INVALID_ARGUMENT', 'No limit for tokens', {
    operation: 'limit tokens',
    hint: `Limits are whole numbers from 0 on; memory is at least ${LEAST_MEMORY} bytes.`,
  });
}
