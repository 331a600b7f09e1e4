/**
 * Refusals that no token manager sees: of files that hold no tokens, or not the sums that tokens name.
 *
 * Invariant: work never fails because something could not be counted.
 */
import { isVhdkitError } from '../../base/errors.js';
import type { TokenStore } from '../../offload/store/token-store.js';

/** Does work and counts in the store why it refused tokens, if it did. */
export async function countingRefusal<T>(store: TokenStore, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const reason = isVhdkitError(error) && error.code === 'TOKEN_INVALID' ? error.context.reason : undefined;
    if (typeof reason === 'string') await store.countRefusal(reason).catch(() => undefined);
    throw error;
  }
}
