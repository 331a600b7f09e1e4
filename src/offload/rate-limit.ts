/**
 * A limit for bytes per second, and providers that keep to it.
 *
 * A token bucket paid in advance: each request is given the moment at which its bytes are paid for, in the
 * order of asking, and waits until then. Time that was not used is kept for a tenth of a second only, so a
 * pause is never followed by a flood.
 *
 * Invariants: n bytes never take less than n / rate seconds, less the tenth; waiting ends at once when the
 * signal is aborted. What moves no bytes (sharing extents, zeros) is not asked to wait.
 */
import { assert } from '../base/assert.js';
import { KiB } from '../base/bytes.js';
import { throwIfAborted } from '../base/errors.js';
import type { Timer } from '../base/timer.js';
import type { OffloadProvider } from './offload-provider.js';

/** Milliseconds of unused time that may be made up for. */
const CREDIT = 100;
/** Part of a second's bytes that a provider is given at once: keeps the flow and the progress even. */
const SHARE = 0.25;
const SMALLEST_PIECE = 64 * KiB;

export class RateLimit {
  /** Bytes per second. */
  readonly rate: number;
  readonly #timer: Timer;
  /** When everything asked for so far is paid. */
  #paid: number;
  /** Bytes that were paid for and not moved. */
  #owed = 0;

  constructor(rate: number, timer: Timer) {
    assert(rate > 0, 'a rate is positive');
    this.rate = rate;
    this.#timer = timer;
    this.#paid = timer.now();
  }

  /** Longest range to be moved for one payment, in bytes. */
  get pieceLength(): number {
    return Math.max(SMALLEST_PIECE, Math.floor((this.rate * SHARE) / SMALLEST_PIECE) * SMALLEST_PIECE);
  }

  /** Waits until the bytes may be moved. @throws CANCELLED */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const owed = Math.min(bytes, this.#owed);
    this.#owed -= owed;
    const due = Math.max(this.#paid, this.#timer.now() - CREDIT) + ((bytes - owed) * 1000) / this.rate;
    this.#paid = due;
    for (;;) {
      throwIfAborted(signal, 'transfer');
      const left = due - this.#timer.now();
      if (left <= 0) return;
      await this.#timer.sleep(left, signal);
    }
  }

  /** Takes note of bytes that were paid for and not moved: the next ones are free. */
  refund(bytes: number): void {
    this.#owed += bytes;
  }
}

/** The provider, kept to the limit. It answers with shorter ranges than without. */
export function limited(provider: OffloadProvider, limit: RateLimit): OffloadProvider {
  return {
    id: provider.id,
    capabilities: (source, target) => provider.capabilities(source, target),
    offloadRead: (file, range, options) => provider.offloadRead(file, range, options),
    async offloadWrite(request) {
      const length = Math.min(request.length, limit.pieceLength);
      await limit.take(length, request.signal);
      const result = await provider.offloadWrite({ ...request, length });
      limit.refund(length - (result.status === 'done' ? result.length : 0));
      return result;
    },
    ...(provider.hold ? { hold: provider.hold.bind(provider) } : {}),
  };
}
