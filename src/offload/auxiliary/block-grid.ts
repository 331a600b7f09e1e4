/**
 * How a token's data falls into blocks: pure arithmetic, in bytes.
 *
 * Blocks are counted where the data was when it was bound: a grid with a phase begins in the middle of a
 * block, so that blocks lie where blocks of the disk lie, whatever part of the disk the token stands for.
 * The first and the last block may be shorter than the others.
 */
import { assert } from '../../base/assert.js';
import type { ByteRange } from '../../io/random-access-file.js';

export interface Grid {
  /** Bytes of data. */
  length: number;
  blockSize: number;
  /** Bytes of the first block that lie before the data; less than a block. */
  phase: number;
}

export function blockCount({ length, blockSize, phase }: Grid): number {
  return Math.ceil((phase + length) / blockSize);
}

/** Where a block lies within the data. */
export function blockRange({ length, blockSize, phase }: Grid, index: number): ByteRange {
  const start = Math.max(0, index * blockSize - phase);
  const end = Math.min(length, (index + 1) * blockSize - phase);
  assert(start < end, `there is no block ${index}`);
  return { offset: start, length: end - start };
}

/** The block that holds a byte of the data. */
export function blockAt({ blockSize, phase }: Grid, offset: number): number {
  return Math.floor((phase + offset) / blockSize);
}

/** The blocks that lie in `[from, to)` of the data as a whole: from `first` up to, not including, `end`. */
export function wholeBlocks(grid: Grid, from: number, to: number): { first: number; end: number } {
  const { length, blockSize, phase } = grid;
  const first = from <= 0 ? 0 : Math.ceil((phase + from) / blockSize);
  const end = to >= length ? blockCount(grid) : Math.floor((phase + to) / blockSize);
  return { first, end: Math.max(first, end) };
}
