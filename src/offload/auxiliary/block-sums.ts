/**
 * Sums of blocks, made from data that comes in pieces of any size: CRC-32C or SHA-256.
 *
 * Invariant: a sum is handed out as soon as its block is complete, in order; memory does not depend on the
 * size of data or blocks. Blocks of zeros that come as zeros cost nothing.
 */
import { createHash } from 'node:crypto';
import { crc32c } from '../../base/crc32c.js';
import { blockAt, blockRange, type Grid } from './block-grid.js';

const ZEROS = new Uint8Array(64 * 1024);

/** A sum of bytes that come one after the other. */
interface Running {
  update(bytes: Uint8Array): void;
  finish(): Uint8Array;
}

export interface SumKind {
  /** Bytes of one sum. */
  readonly bytes: number;
  begin(): Running;
}

/** CRC-32C, big-endian. */
export const CRC32C: SumKind = {
  bytes: 4,
  begin() {
    let crc = 0;
    return {
      update(bytes) {
        crc = crc32c(bytes, crc);
      },
      finish() {
        const sum = new Uint8Array(4);
        new DataView(sum.buffer).setUint32(0, crc);
        return sum;
      },
    };
  },
};

export const SHA256: SumKind = {
  bytes: 32,
  begin() {
    const hash = createHash('sha256');
    return {
      update(bytes) {
        hash.update(bytes);
      },
      finish: () => hash.digest(),
    };
  },
};

function addZeros(running: Running, length: number): void {
  for (let done = 0; done < length; done += ZEROS.length)
    running.update(ZEROS.subarray(0, Math.min(ZEROS.length, length - done)));
}

/** What blocks of zeros have as their sum; remembered by length. */
export class ZeroSums {
  readonly #kind: SumKind;
  readonly #known = new Map<number, Uint8Array>();

  constructor(kind: SumKind) {
    this.#kind = kind;
  }

  of(length: number): Uint8Array {
    let sum = this.#known.get(length);
    if (!sum) {
      const running = this.#kind.begin();
      addZeros(running, length);
      sum = running.finish();
      // Only the edges of data have other lengths than one; whoever has more does without.
      if (this.#known.size < 64) this.#known.set(length, sum);
    }
    return sum;
  }
}

export class BlockSums {
  readonly #grid: Grid;
  readonly #kind: SumKind;
  readonly #emit: (index: number, sum: Uint8Array) => void;
  readonly #zeros: ZeroSums;
  #at: number;
  #running: Running | undefined;

  /**
   * @param start where in the grid's data the first piece begins; the start of a block
   * @param emit called with each block's index and sum
   */
  constructor(
    grid: Grid,
    kind: SumKind,
    zeros: ZeroSums,
    emit: (index: number, sum: Uint8Array) => void,
    start = 0,
  ) {
    this.#grid = grid;
    this.#kind = kind;
    this.#zeros = zeros;
    this.#emit = emit;
    this.#at = start;
  }

  /** The next piece: bytes, or that many zeros. */
  update(length: number, bytes: Uint8Array | undefined): void {
    for (let done = 0; done < length; ) {
      const index = blockAt(this.#grid, this.#at);
      const block = blockRange(this.#grid, index);
      const end = block.offset + block.length;
      const count = Math.min(end - this.#at, length - done);
      if (!bytes && count === block.length) this.#emit(index, this.#zeros.of(count));
      else this.#add(index, count, bytes?.subarray(done, done + count), this.#at + count === end);
      this.#at += count;
      done += count;
    }
  }

  #add(index: number, length: number, bytes: Uint8Array | undefined, complete: boolean): void {
    this.#running ??= this.#kind.begin();
    if (bytes) this.#running.update(bytes);
    else addZeros(this.#running, length);
    if (!complete) return;
    const sum = this.#running.finish();
    this.#running = undefined;
    this.#emit(index, sum);
  }
}
