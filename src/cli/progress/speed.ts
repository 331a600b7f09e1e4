/**
 * Rate and remaining time, from the whole run so far weighted towards the recent past.
 *
 * The rate is an exponential average over about five seconds: steady enough to read, quick enough to
 * follow a target that slows down.
 */
const WINDOW_MS = 5000;

export class Speed {
  readonly #start: number;
  #last: number;
  #done = 0;
  #rate: number | undefined;

  /** @param now milliseconds */
  constructor(now: number) {
    this.#start = now;
    this.#last = now;
  }

  /** Takes note of the bytes done at a moment; moments closer than 50 ms are put together. */
  note(done: number, now: number): void {
    const passed = now - this.#last;
    if (passed < 50) return;
    const current = ((done - this.#done) * 1000) / passed;
    const weight = this.#rate === undefined ? 1 : 1 - Math.exp(-passed / WINDOW_MS);
    this.#rate = (this.#rate ?? 0) + weight * (current - (this.#rate ?? 0));
    this.#last = now;
    this.#done = done;
  }

  /** Bytes per second; undefined before there is anything to go by. */
  get rate(): number | undefined {
    return this.#rate;
  }

  elapsedMs(now: number): number {
    return now - this.#start;
  }

  /** Milliseconds until the total is done, at the present rate. */
  remainingMs(done: number, total: number): number | undefined {
    if (!this.#rate || this.#rate <= 0) return undefined;
    return ((total - done) * 1000) / this.#rate;
  }
}
