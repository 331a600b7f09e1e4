/**
 * The providers of this package, made for one manager.
 *
 * The only file that knows them all; providers don't know each other.
 */
import type { BufferPool } from './buffer-pool.js';
import type { OffloadProvider } from './offload-provider.js';
import { bufferedProvider } from './providers/buffered-provider.js';
import { copyRangeProvider } from './providers/copy-range-provider.js';
import { reflinkProvider } from './providers/reflink-provider.js';
import { zeroProvider } from './providers/zero-provider.js';
import type { TokenManager } from './token-manager.js';

/** `pool`: where the buffered provider takes its buffers from. */
export function standardProviders(manager: TokenManager, pool: BufferPool): OffloadProvider[] {
  return [
    zeroProvider(manager),
    reflinkProvider(manager),
    copyRangeProvider(manager),
    bufferedProvider(manager, pool),
  ];
}
