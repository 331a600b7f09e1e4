/**
 * A timer whose time stands still until somebody waits, and then jumps: tests that wait take no time.
 *
 * Invariant: sleepers wake in the order of their moments, one after the other, once nothing else is left
 * to do in the event loop's present turn.
 */
import type { Timer } from '../../src/base/timer.js';

interface Sleeper {
  until: number;
  wake: () => void;
}

export class FakeTimer implements Timer {
  /** Milliseconds. */
  time = 0;
  /** Sleeps asked for so far. */
  sleeps = 0;
  readonly #sleepers = new Set<Sleeper>();
  #scheduled = false;
  readonly #frozen: boolean;

  /** With `frozen`, time stands still even then: only a signal ends a wait. */
  constructor(options: { frozen?: boolean } = {}) {
    this.#frozen = options.frozen ?? false;
  }

  now(): number {
    return this.time;
  }

  sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    this.sleeps += 1;
    return new Promise((resolve) => {
      const sleeper = { until: this.time + milliseconds, wake: resolve };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', () => {
        if (this.#sleepers.delete(sleeper)) resolve();
      });
      if (!this.#frozen) this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const [next] = [...this.#sleepers].sort((a, b) => a.until - b.until);
      if (!next) return;
      this.time = Math.max(this.time, next.until);
      this.#sleepers.delete(next);
      next.wake();
      if (this.#sleepers.size > 0) this.#schedule();
    });
  }
}
