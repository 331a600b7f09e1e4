/**
 * A small cache of things that are loaded by number: pages of the BAT, sector bitmaps.
 *
 * Invariant: never holds more than `capacity` values; a load that fails is not remembered. Callers that
 * ask for the same key at once share one load.
 */

export class AsyncLru<V> {
  readonly #capacity: number;
  readonly #load: (key: number) => Promise<V>;
  readonly #values = new Map<number, Promise<V>>();

  constructor(capacity: number, load: (key: number) => Promise<V>) {
    this.#capacity = capacity;
    this.#load = load;
  }

  /** Number of values held, for tests. */
  get size(): number {
    return this.#values.size;
  }

  /** Forgets a value that is not true any more; a load under way is not remembered. */
  forget(key: number): void {
    this.#values.delete(key);
  }

  get(key: number): Promise<V> {
    const known = this.#values.get(key);
    if (known) {
      // Insertion order is age: taking it out and in again makes it the youngest.
      this.#values.delete(key);
      this.#values.set(key, known);
      return known;
    }
    const value = this.#load(key);
    this.#values.set(key, value);
    value.catch(() => {
      if (this.#values.get(key) === value) this.#values.delete(key);
    });
    if (this.#values.size > this.#capacity) {
      const [oldest] = this.#values.keys();
      if (oldest !== undefined) this.#values.delete(oldest);
    }
    return value;
  }
}
