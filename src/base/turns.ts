/**
 * One change at a time.
 *
 * Invariant: what is given to `take` runs in the order of the calls, each after the one before has ended,
 * well or badly. Reading does not take turns.
 */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}
