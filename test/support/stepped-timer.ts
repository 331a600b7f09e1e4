/** A timer whose time goes on only when a test says so. */
import type { Timer } from '../../src/base/timer.js';

export class SteppedTimer implements Timer {
  /** Milliseconds. */
  time = 0;
  readonly #sleepers = new Set<{ until: number; wake: () => void }>();

  now(): number {
    return this.time;
  }

  sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const end = (): void => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener('abort', end);
        resolve();
      };
      const sleeper = { until: this.time + milliseconds, wake: end };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', end);
    });
  }

  /** Goes on in steps of a second, and lets everybody act upon each. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.time + milliseconds;
    while (this.time < end) {
      this.time = Math.min(end, this.time + 1000);
      for (const sleeper of [...this.#sleepers]) {
        if (sleeper.until <= this.time) sleeper.wake();
      }
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
