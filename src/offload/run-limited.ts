/**
 * Running asynchronous work with a bound on how much is in flight.
 *
 * Invariant: when these return or throw, nothing they started is still running.
 */

/** Runs `work` on every item in order, at most `limit` at a time; after a failure nothing new is started. */
export async function runLimited<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const worker = async (): Promise<void> => {
    while (next < items.length && !failed) {
      const item = items[next] as T;
      next += 1;
      try {
        await work(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const workers = Array.from({ length: Math.min(limit, items.length) }, worker);
  const outcomes = await Promise.allSettled(workers);
  const failure = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failure) throw failure.reason;
}

/** The same for work that arrives over time. */
export class Lanes {
  readonly #limit: number;
  readonly #running = new Set<Promise<void>>();
  #failure: { error: unknown } | undefined;
  #wake: (() => void) | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Waits for a free lane, then starts the work. @throws what earlier work threw */
  async add(work: () => Promise<void>): Promise<void> {
    // One waiter at most: there is one producer. (Racing the whole set would pile up reactions on slow work.)
    while (this.#running.size >= this.#limit && !this.#failure) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#throwFailure();
    const running: Promise<void> = work()
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#running.delete(running);
        this.#wake?.();
      });
    this.#running.add(running);
  }

  /** True once something failed: work that runs longer should stop. */
  get failed(): boolean {
    return this.#failure !== undefined;
  }

  /** Waits for everything that runs. @throws the first failure */
  async finish(): Promise<void> {
    await this.settle();
    this.#throwFailure();
  }

  /** Waits for everything that runs, whatever comes of it. */
  async settle(): Promise<void> {
    await Promise.all(this.#running);
  }

  #throwFailure(): void {
    if (this.#failure) throw this.#failure.error;
  }
}
