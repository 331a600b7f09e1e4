/**
 * Group commit: what several ask for while a round is under way is done together in the next one.
 *
 * Invariants: rounds do not overlap; whoever asks is answered when a round that began after his asking has ended, with
 * that round's failure if it failed. A failed round does not stop the next.
 */
export class GroupCommit<T> {
  readonly #commit: (items: readonly T[]) => Promise<void>;
  #running: Promise<void> | undefined;
  #next: { items: T[]; done: Promise<void> } | undefined;

  constructor(commit: (items: readonly T[]) => Promise<void>) {
    this.#commit = commit;
  }

  /** When nothing is under way any more; what failed is told to those who asked for it. */
  async idle(): Promise<void> {
    for (let seen: unknown; ; ) {
      const last = this.#next?.done ?? this.#running;
      if (last === seen) return;
      seen = last;
      await last?.catch(() => undefined);
    }
  }

  add(item: T): Promise<void> {
    if (this.#next) {
      this.#next.items.push(item);
      return this.#next.done;
    }
    const items = [item];
    const before = this.#running ?? Promise.resolve();
    const done = before
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        this.#running = done;
        return this.#commit(items);
      });
    this.#next = { items, done };
    return done;
  }
}
