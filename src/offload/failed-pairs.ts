/**
 * Remembers which provider could not do which pair of devices (or of files), so that it is not asked again
 * before some time is over. One for a process, whoever moves bytes in it.
 *
 * Invariants: an entry ends by time, whether it is looked at or not; asking while there are no entries costs
 * nothing; the number of entries is bounded, the oldest give way.
 */
import type { RandomAccessFile } from '../io/random-access-file.js';
import { deviceKey, fileKey } from './file-keys.js';
import type { FailureScope } from './offload-provider.js';

/** Milliseconds: three minutes, as other systems that offload copies have it. */
export const RETRY_AFTER = 180_000;
const MAX_ENTRIES = 1024;

export interface PairFailure {
  reason: string;
  /** Milliseconds until it is tried again. */
  retryIn: number;
}

export class FailedPairs {
  readonly #clock: { now(): number };
  readonly #entries = new Map<string, { reason: string; until: number }>();

  /** @param clock milliseconds from any moment on */
  constructor(clock: { now(): number }) {
    this.#clock = clock;
  }

  /** What keeps the provider from being asked about these files now. */
  find(provider: string, source: RandomAccessFile, target: RandomAccessFile): PairFailure | undefined {
    if (this.#entries.size === 0) return undefined;
    return (
      this.#valid(keyFor('devices', provider, source, target)) ??
      this.#valid(keyFor('files', provider, source, target))
    );
  }

  /** Takes note of a failure. What concerns a range only is no failure of the pair. */
  note(
    provider: string,
    source: RandomAccessFile,
    target: RandomAccessFile,
    { reason, scope = 'devices' }: { reason: string; scope?: FailureScope },
  ): void {
    if (scope === 'range') return;
    const key = keyFor(scope, provider, source, target);
    // Entries are in the order of their ends.
    this.#entries.delete(key);
    this.#entries.set(key, { reason, until: this.#clock.now() + RETRY_AFTER });
    this.#clean();
  }

  /** Lets everything be tried again at once: for whoever has changed what made it fail. */
  forget(): void {
    this.#entries.clear();
  }

  #valid(key: string): PairFailure | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    const retryIn = entry.until - this.#clock.now();
    if (retryIn > 0) return { reason: entry.reason, retryIn };
    this.#clean();
    return undefined;
  }

  #clean(): void {
    const now = this.#clock.now();
    for (const [key, { until }] of this.#entries) {
      if (until > now && this.#entries.size <= MAX_ENTRIES) return;
      this.#entries.delete(key);
    }
  }
}

function keyFor(
  scope: 'files' | 'devices',
  provider: string,
  source: RandomAccessFile,
  target: RandomAccessFile,
): string {
  const keyOf = scope === 'files' ? fileKey : deviceKey;
  return `${scope}\n${provider}\n${keyOf(source)}\n${keyOf(target)}`;
}
