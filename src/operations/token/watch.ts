/**
 * While tokens are in use: tells the store, so that nobody takes them for forgotten or evicts them, and looks
 * whether one of them was revoked.
 *
 * Invariant: nothing is going on any more once `stop` has returned. A store that is away for a while stops no
 * work.
 */
import { VhdkitError } from '../../base/errors.js';
import type { TokenManager } from '../../offload/token-manager.js';
import type { EndReason } from '../../offload/token-standing.js';
import type { Host } from '../host.js';

/** Milliseconds between looks. */
const POLL = 500;

/** What becomes of work that has begun when a token that it uses is revoked. */
export type OnRevoke = 'finish' | 'abort';

export interface TokenWatch {
  /** Aborted when the caller's is, or when the work is to stop because of a token. */
  readonly signal: AbortSignal;
  /** How a token ended, where that is to stop the work. */
  readonly ended: EndReason | undefined;
  stop(): Promise<void>;
}

export function watchTokens(
  host: Host,
  manager: TokenManager,
  { onRevoke = 'finish', signal }: { onRevoke?: OnRevoke | undefined; signal?: AbortSignal | undefined },
): TokenWatch {
  const stopped = new AbortController();
  const revoked = new AbortController();
  let ended: EndReason | undefined;
  const watch = async (): Promise<void> => {
    for (;;) {
      await host.timer.sleep(POLL, stopped.signal);
      if (stopped.signal.aborted) return;
      await manager.keepPinned();
      if (onRevoke === 'finish' || ended) continue;
      ended = await manager.endedInUse().catch(() => undefined);
      if (ended) revoked.abort();
    }
  };
  const watching = watch();
  return {
    signal: signal ? AbortSignal.any([signal, revoked.signal]) : revoked.signal,
    get ended() {
      return ended;
    },
    async stop() {
      stopped.abort();
      await watching;
    },
  };
}

const ENDS: Record<EndReason, string> = {
  revoked: 'was revoked',
  evicted: 'was evicted',
  closed: 'was closed by whoever made it',
  expired: 'expired',
};

/** Of a write that was stopped because of a token: says what that means for the target. */
export function stoppedBy(end: EndReason, target: string, cause: unknown): VhdkitError {
  return new VhdkitError(
    'TOKEN_INVALID',
    `A token ${ENDS[end]} while ${target} was being written; it holds a part`,
    {
      operation: 'write tokens',
      context: { path: target, target, reason: end },
      cause,
      hint: 'Read a fresh token and write again; --on-revoke finish lets a write that has begun end.',
    },
  );
}
