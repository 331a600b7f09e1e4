/**
 * Recycled buffers of one size, limited in number: memory stays flat however much is in flight.
 *
 * Rule for users: who holds a buffer must not wait for another one of the same pool.
 */
export class BufferPool {
  readonly size: number;
  readonly #free: Uint8Array[] = [];
  readonly #waiting: ((buffer: Uint8Array) => void)[] = [];
  #unmade: number;

  /** `size` in bytes, `count` buffers at most; they are made when first needed. */
  constructor(size: number, count: number) {
    this.size = size;
    this.#unmade = count;
  }

  async acquire(): Promise<Uint8Array> {
    const free = this.#free.pop();
    if (free) return free;
    if (this.#unmade > 0) {
      this.#unmade -= 1;
      return new Uint8Array(this.size);
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Takes back a buffer that came from `acquire` (the whole one, not a part). */
  release(buffer: Uint8Array): void {
    const next = this.#waiting.shift();
    if (next) next(buffer);
    else this.#free.push(buffer);
  }

  /** Lends a buffer for the time `work` takes. The buffer's content is arbitrary. */
  async with<T>(work: (buffer: Uint8Array) => Promise<T>): Promise<T> {
    const buffer = await this.acquire();
    try {
      return await work(buffer);
    } finally {
      this.release(buffer);
    }
  }
}
