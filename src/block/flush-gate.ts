/**
 * Flushes that are asked for at the same time, put together.
 *
 * Invariant: every `flush` is answered by a run of the work that began after it was asked for; at most one run
 * is under way and one waits, however many ask.
 */
export class FlushGate {
  readonly #work: () => Promise<void>;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  /** @param work makes durable all that had finished when it was called */
  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  flush(): Promise<void> {
    const running = this.#running;
    if (!running) return this.#start();
    this.#next ??= running.then(
      () => this.#begin(),
      () => this.#begin(),
    );
    return this.#next;
  }

  #begin(): Promise<void> {
    this.#next = undefined;
    return this.#start();
  }

  #start(): Promise<void> {
    const run = this.#work().finally(() => {
      if (this.#running === run) this.#running = undefined;
    });
    this.#running = run;
    return run;
  }
}
