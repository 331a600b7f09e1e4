/**
 * Session options for operations that move bytes: one place that knows what they take from the host.
 */
import { VhdkitError } from '../base/errors.js';
import { RateLimit } from '../offload/rate-limit.js';
import { TokenManager } from '../offload/token-manager.js';
import type { SessionOptions } from '../offload/transfer-session.js';
import type { ProviderChoice, ZeroPolicy } from '../offload/transfer-types.js';
import type { Host } from './host.js';

export interface MovingOptions {
  provider?: ProviderChoice;
  zeros?: ZeroPolicy;
  /** Bytes per second that may be read or copied at most. */
  rate?: number;
  signal?: AbortSignal;
}

/** @throws INVALID_ARGUMENT for a rate that would never end */
export function rateLimitOf(
  { timer }: Pick<Host, 'timer'>,
  { rate }: Pick<MovingOptions, 'rate'>,
): RateLimit | undefined {
  if (rate === undefined) return undefined;
  if (rate > 0) return new RateLimit(rate, timer);
  throw new VhdkitError('INVALID_ARGUMENT', `Nothing can go on at ${rate} bytes per second`, {
    operation: 'limit the rate',
    hint: 'Give a rate such as 50M, or leave it away for no limit.',
  });
}

/**
 * @param rateLimit one that the session shares with others; otherwise its own, by `options.rate`
 * @throws INVALID_ARGUMENT for a rate that would never end
 */
export function sessionFor(
  host: Host,
  options: MovingOptions,
  rateLimit = rateLimitOf(host, options),
): SessionOptions {
  const { provider = 'auto', zeros = 'auto', signal } = options;
  return {
    provider,
    zeros,
    manager: new TokenManager({ clock: host.clock, random: host.random }),
    memory: { failed: host.failedPairs, latency: host.latency },
    ...(signal ? { signal } : {}),
    ...(rateLimit ? { rateLimit } : {}),
  };
}
