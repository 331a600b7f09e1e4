/**
 * How many records fit, counted now and then: counting costs as much as a tenth of a put.
 *
 * Invariant: between two counts so small a share of the room is given out that even many processes together do not
 * go beyond the limit by more than that.
 */
const SHARE = 64;

export class Room {
  readonly #most: number;
  readonly #count: () => number;
  /** Puts until it is counted again. */
  #uncounted = 0;

  constructor(most: number, count: () => number) {
    this.#most = most;
    this.#count = count;
  }

  /** Whether one more record fits. */
  take(): boolean {
    if (this.#uncounted > 0) {
      this.#uncounted -= 1;
      return true;
    }
    const room = this.#most - this.#count();
    this.#uncounted = Math.max(0, Math.floor(room / SHARE) - 1);
    return room > 0;
  }
}
