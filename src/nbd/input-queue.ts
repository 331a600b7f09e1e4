/**
 * Bytes that came from a socket and were not used yet, in the chunks they came in.
 *
 * Invariant: bytes leave in the order they came, each once. Chunks belong to the queue and are never written
 * to, so a view that was handed out stays valid as long as its user keeps it.
 *
 * Fixed-size headers are read in place (`contiguous`, then `buffer` and `position`): a request costs no
 * allocation here unless it happens to be cut in two by a chunk's end.
 */
const EMPTY = Buffer.alloc(0);

/** A client that sends byte by byte must not fill the memory with tiny chunks: these many become one. */
const MAX_CHUNKS = 64;

export class InputQueue {
  readonly #later: Buffer[] = [];
  #first: Buffer = EMPTY;
  #position = 0;
  #length = 0;

  /** Bytes that are there. */
  get length(): number {
    return this.#length;
  }

  /** The chunk that the next byte lies in, at `position`. */
  get buffer(): Buffer {
    return this.#first;
  }

  get position(): number {
    return this.#position;
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    if (this.#length === 0) {
      this.#first = chunk;
      this.#position = 0;
    } else {
      this.#later.push(chunk);
      if (this.#later.length > MAX_CHUNKS)
        this.#later.splice(0, this.#later.length, Buffer.concat(this.#later));
    }
    this.#length += chunk.length;
  }

  /** Whether `count` bytes are there; if so they lie in one piece at `buffer[position]` (small counts: copies). */
  contiguous(count: number): boolean {
    if (this.#length < count) return false;
    if (this.#first.length - this.#position < count) this.#join(count);
    return true;
  }

  /** Drops up to `count` bytes; returns how many. */
  skip(count: number): number {
    const dropped = Math.min(count, this.#length);
    let left = dropped;
    while (left > 0) {
      const step = Math.min(left, this.#first.length - this.#position);
      this.#advance(step);
      left -= step;
    }
    return dropped;
  }

  /** The next `count` bytes, which must be there: a view where they lie in one chunk, else a copy. */
  take(count: number): Buffer {
    this.contiguous(count);
    const bytes = this.#first.subarray(this.#position, this.#position + count);
    this.#advance(count);
    return bytes;
  }

  /** Whether the next `count` bytes lie in one chunk. */
  inOneChunk(count: number): boolean {
    return this.#first.length - this.#position >= count && this.#length >= count;
  }

  /** Moves what is there into the target from `at` on; returns how many bytes that was. */
  moveInto(target: Uint8Array, at: number): number {
    let moved = 0;
    while (this.#length > 0 && at + moved < target.length) {
      const step = Math.min(target.length - at - moved, this.#first.length - this.#position);
      target.set(this.#first.subarray(this.#position, this.#position + step), at + moved);
      this.#advance(step);
      moved += step;
    }
    return moved;
  }

  clear(): void {
    this.#later.length = 0;
    this.#first = EMPTY;
    this.#position = 0;
    this.#length = 0;
  }

  #advance(count: number): void {
    this.#position += count;
    this.#length -= count;
    if (this.#position < this.#first.length) return;
    this.#first = this.#later.shift() ?? EMPTY;
    this.#position = 0;
  }

  /** Makes one chunk of the first ones, just enough of them. */
  #join(count: number): void {
    const joined = Buffer.allocUnsafe(count);
    const total = this.#length;
    this.moveInto(joined, 0);
    if (this.#length > 0) this.#later.unshift(this.#first.subarray(this.#position));
    this.#first = joined;
    this.#position = 0;
    this.#length = total;
  }
}
