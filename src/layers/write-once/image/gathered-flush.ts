/**
 * Flushes that many ask for at the same time, carried out for all of them together.
 *
 * Invariant: a flush covers whoever asked before it began; who asks while one is under way gets the next.
 */
export class GatheredFlush {
  readonly #image: { flush(): Promise<void> };
  #current: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(image: { flush(): Promise<void> }) {
    this.#image = image;
  }

  /** Durable: everything that was done before the call. @throws what the image's flush throws */
  flush(): Promise<void> {
    this.#next ??= this.#after(this.#current);
    return this.#next;
  }

  async #after(current: Promise<void> | undefined): Promise<void> {
    // Also what is asked for in the same turn of the event loop goes along.
    await (current ?? Promise.resolve()).catch(() => undefined);
    this.#current = this.#next;
    this.#next = undefined;
    await this.#image.flush();
  }
}
