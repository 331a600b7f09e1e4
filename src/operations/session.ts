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
export function sessionFor(host: Host, options: MovingOptions): SessionOptions {
  const { rate, signal } = options;
  if (rate !== undefined && rate <= 0) {
    throw new VhdkitError('INVALID_ARGUMENT', `Nothing can go on at ${rate} bytes per second`, {
      operation: 'move bytes',
      hint: 'Give a rate such as 50M, or leave it away for no limit.',
    });
  }
  return {
    provider: options.provider ?? 'auto',
    zeros: options.zeros ?? 'auto',
    manager: new TokenManager({ clock: host.clock, random: host.random }),
    ...(signal ? { signal } : {}),
    ...(rate === undefined ? {} : { rateLimit: new RateLimit(rate, host.timer) }),
  };
}
