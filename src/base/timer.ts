/**
 * Waiting, injected: whoever has to wait below cli/ does it through a Timer, so that tests need not sleep.
 */

export interface Timer {
  /** Milliseconds from an arbitrary moment on; never goes back. */
  now(): number;
  /** Resolves after the time, or as soon as the signal is aborted. Never rejects. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

/** What setTimeout takes at most; it would not wait at all for more. */
const LONGEST = 2 ** 31 - 1;

export const systemTimer: Timer = {
  now: () => performance.now(),
  sleep(milliseconds, signal) {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const end = (): void => {
        clearTimeout(timeout);
        signal?.removeEventListener('abort', end);
        resolve();
      };
      const timeout = setTimeout(end, Math.min(milliseconds, LONGEST));
      signal?.addEventListener('abort', end);
    });
  },
};
