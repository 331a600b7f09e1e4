/**
 * Flushes a device by itself some time after it was changed, so that a process that is killed loses little.
 *
 * Invariants: no longer than `delay` passes between a change and the flush that covers it, busy or idle;
 * nothing runs while there is nothing to flush. A flush that failed unseen is told to whoever asks next: the
 * system reports a lost write once only.
 */
import type { Timer } from '../../base/timer.js';

export class DirtyTimer {
  readonly #timer: Timer;
  readonly #delay: number;
  readonly #flush: () => Promise<void>;
  readonly #stop = new AbortController();
  #dirty = false;
  #waiting: Promise<void> | undefined;
  #failure: unknown;

  /** @param delay milliseconds */
  constructor(timer: Timer, delay: number, flush: () => Promise<void>) {
    this.#timer = timer;
    this.#delay = delay;
    this.#flush = flush;
  }

  /** To be called after each change. */
  changed(): void {
    this.#dirty = true;
    this.#waiting ??= this.#wait();
  }

  /** To be called when somebody begins to flush. @throws what a flush of its own met */
  settled(): void {
    this.#dirty = false;
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Nothing happens by itself any more when it resolves. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#waiting;
  }

  async #wait(): Promise<void> {
    const { signal } = this.#stop;
    do {
      await this.#timer.sleep(this.#delay, signal);
      if (signal.aborted) break;
      if (!this.#dirty) break;
      this.#dirty = false;
      try {
        await this.#flush();
      } catch (error) {
        this.#failure ??= error;
      }
    } while (this.#dirty);
    this.#waiting = undefined;
  }
}
