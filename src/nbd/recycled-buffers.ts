/**
 * Buffers for payload, used again and again: sizes are powers of two from 4 KiB to 1 MiB.
 *
 * Invariant: never waits; how many are out is limited by whoever counts bytes (memory-account.ts), how many are
 * kept by `keep`. What a buffer holds when it is lent is arbitrary.
 */
import { KiB, MiB } from '../base/bytes.js';

const SMALLEST = 4 * KiB;
export const LARGEST_RECYCLED = 1 * MiB;

export class RecycledBuffers {
  readonly #free = new Map<number, Buffer[]>();
  readonly #keep: number;
  #kept = 0;

  /** `keep`: bytes of unused buffers that are kept. */
  constructor(keep: number) {
    this.#keep = keep;
  }

  /** At least `length` bytes. Larger ones than a mebibyte are made, and not kept. */
  lend(length: number): Buffer {
    const size = sizeFor(length);
    const buffer = this.#free.get(size)?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(size);
    this.#kept -= size;
    return buffer;
  }

  /** Takes back the whole buffer that `lend` answered with. */
  release(buffer: Buffer): void {
    const size = buffer.length;
    if (size > LARGEST_RECYCLED || this.#kept + size > this.#keep) return;
    this.#kept += size;
    const list = this.#free.get(size);
    if (list) list.push(buffer);
    else this.#free.set(size, [buffer]);
  }
}

function sizeFor(length: number): number {
  if (length <= SMALLEST) return SMALLEST;
  return length > LARGEST_RECYCLED ? length : 2 ** (32 - Math.clz32(length - 1));
}
