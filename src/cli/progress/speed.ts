/**
 * Rate and remaining time, weighted towards the recent past.
 *
 * Bytes and time both fade with a time constant of five seconds and the rate is their quotient: right
 * from the first measurement on, steady enough to read, quick enough to follow a target that slows down.
 */
const FADE_MS = 5000;
/** Moments closer than this are put together. */
const STEP_MS = 50;

export class Speed {
  readonly #start: number;
  #last: number;
  #done = 0;
  #bytes = 0;
  #time = 0;

  /** @param now milliseconds */
  constructor(now: number) {
    this.#start = now;
    this.#last = now;
  }

  /** Takes note of the bytes done at a moment. */
  note(done: number, now: number): void {
    const passed = now - this.#last;
    if (passed < STEP_MS) return;
    const keep = Math.exp(-passed / FADE_MS);
    this.#bytes = this.#bytes * keep + (done - this.#done);
    this.#time = this.#time * keep + passed;
    this.#last = now;
    this.#done = done;
  }

  /** Bytes per second; undefined before there is anything to go by. */
  get rate(): number | undefined {
    return this.#time > 0 ? (this.#bytes * 1000) / this.#time : undefined;
  }

  /** Bytes per second over the whole run; undefined when it took no time. */
  averageRate(done: number, now: number): number | undefined {
    const passed = now - this.#start;
    return passed > 0 ? (done * 1000) / passed : undefined;
  }

  /** Milliseconds until the total is done, at the present rate. */
  remainingMs(done: number, total: number): number | undefined {
    const { rate } = this;
    return rate ? ((total - done) * 1000) / rate : undefined;
  }
}
