/**
 * Where the blocks of a disk are, for blocks that were asked for before: what lets small requests be answered
 * without a promise.
 *
 * Invariants: what is kept is bounded, whatever the disk's size. A block is kept only by somebody who keeps
 * changes of its mapping away while he looks it up and puts it in, and is forgotten before its mapping changes.
 */
import type { ChainExtent } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';

/** Extents of all blocks together, and one for each block. */
const MAX_EXTENTS = 64 * 1024;
/** A block in more pieces is looked up each time. */
const MAX_EXTENTS_OF_BLOCK = 256;

/** A run of the disk. */
export interface Segment {
  /** On the disk. */
  offset: number;
  end: number;
  /** Undefined: reads as zeros, nothing is stored. */
  file: RandomAccessFile | undefined;
  /** What is added to a place on the disk to get the place in the file. */
  shift: number;
  /** It is stored in the top image: writes can go there. */
  own: boolean;
}

export function segmentOf(extent: ChainExtent): Segment {
  const { offset, length } = extent;
  const end = offset + length;
  if (extent.state !== 'data') return { offset, end, file: undefined, shift: 0, own: false };
  return { offset, end, file: extent.file, shift: extent.fileOffset - offset, own: extent.depth === 0 };
}

export class BlockCache {
  /** Bytes of the disk that one entry covers. */
  readonly unit: number;
  readonly #blocks = new Map<number, readonly Segment[]>();
  #extents = 0;

  constructor(unit: number) {
    this.unit = unit;
  }

  /**
   * The segment that holds all of a range; undefined where it is not known, or there is more than one.
   */
  find(offset: number, length: number): Segment | undefined {
    const segments = this.#blocks.get(Math.floor(offset / this.unit));
    if (!segments || segments.length === 0) return undefined;
    let low = 0;
    let high = segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((segments[middle] as Segment).offset <= offset) low = middle;
      else high = middle - 1;
    }
    const segment = segments[low] as Segment;
    return offset + length <= segment.end ? segment : undefined;
  }

  /** All segments of a block, in order: none where they are too many. Undefined where they are not known. */
  block(block: number): readonly Segment[] | undefined {
    return this.#blocks.get(block);
  }

  keep(block: number, segments: readonly Segment[]): void {
    const kept = segments.length > MAX_EXTENTS_OF_BLOCK ? [] : segments;
    this.#drop(block);
    this.#blocks.set(block, kept);
    this.#extents += kept.length + 1;
    for (const oldest of this.#blocks.keys()) {
      if (this.#extents <= MAX_EXTENTS) break;
      this.#drop(oldest);
    }
  }

  /** Forgets every block that the range touches. */
  forget(offset: number, length: number): void {
    const first = Math.floor(offset / this.unit);
    const last = Math.ceil((offset + length) / this.unit);
    if (last - first <= this.#blocks.size) {
      for (let block = first; block < last; block += 1) this.#drop(block);
      return;
    }
    for (const block of [...this.#blocks.keys()]) if (block >= first && block < last) this.#drop(block);
  }

  #drop(block: number): void {
    const known = this.#blocks.get(block);
    if (!known) return;
    this.#blocks.delete(block);
    this.#extents -= known.length + 1;
  }
}
