/**
 * Which stored blocks nobody needs, and what is to become of them.
 *
 * Invariants: a block is given back only when every stored byte of it is either in a range that its file
 * system calls free, or (with `zeros`) shows the same when it is not stored any more. Blocks are judged one
 * by one in disk order with flat memory.
 *
 * Not here: carrying it out (give-back.ts).
 */
import { KiB, roundUp } from '../../base/bytes.js';
import { clipExtent, type DataExtent, type Extent, LOCATE_WINDOW, type Locator } from '../../block/extent.js';
import type { DiskImage } from '../../formats/disk-image.js';
import type { ByteRange } from '../../io/random-access-file.js';
import { ContentScan } from './content-scan.js';
import { FreeCursor } from './free-cursor.js';

export interface Decision {
  /** Range of the disk: one block, or the end of the disk. */
  offset: number;
  length: number;
  /**
   * `discard`: forget the block; `zero`: say that it is zero (a child whose parent shows something else
   * there); `hollow`: the block stays, but the storage of its free parts goes.
   */
  action: 'discard' | 'zero' | 'hollow';
  reason: 'zeros' | 'freeSpace';
  /** What is given back: all that is stored in the block, or (`hollow`) its free parts. */
  parts: readonly DataExtent[];
  /** Bytes of the parts. */
  stored: number;
}

export interface DecideOptions {
  /** Also blocks that hold only zeros, or what the parent shows anyway. */
  zeros: boolean;
  /** What file systems hold free, in order. */
  free?: AsyncIterable<ByteRange>;
  /** The chain beneath a differencing image. */
  below?: Locator;
  onProgress?: (done: number) => void;
}

/** What is judged at a time where an image has no blocks. */
const UNIT = 64 * KiB;
const BLOCKS_AT_ONCE = 4096;
/** Blocks of host file systems: storage goes in whole ones. */
const HOST_BLOCK = 4 * KiB;
/** Free parts of blocks that stay are looked at from this size on: each makes a hole in the file. */
const SMALLEST_HOLE = 64 * KiB;

function clipped(extents: readonly Extent[], ranges: readonly ByteRange[]): DataExtent[] {
  const parts: DataExtent[] = [];
  for (const extent of extents) {
    if (extent.state !== 'data') continue;
    for (const { offset, length } of ranges) {
      const overlap =
        Math.min(offset + length, extent.offset + extent.length) > Math.max(offset, extent.offset);
      if (overlap) parts.push(clipExtent(extent, offset, length));
    }
  }
  return parts;
}

/** Splits the extents of a window at block boundaries; each block gets its own. */
function* perBlock(
  extents: readonly Extent[],
  range: ByteRange,
  unit: number,
): Generator<ByteRange & { extents: Extent[] }> {
  let index = 0;
  const end = range.offset + range.length;
  for (let at = range.offset; at < end; ) {
    const stop = Math.min(end, (Math.floor(at / unit) + 1) * unit);
    const own: Extent[] = [];
    for (; index < extents.length; index += 1) {
      const extent = extents[index];
      if (!extent || extent.offset >= stop) break;
      own.push(clipExtent(extent, at, stop - at));
      if (extent.offset + extent.length > stop) break;
    }
    yield { offset: at, length: stop - at, extents: own };
    at = stop;
  }
}

/** What of a range is not in `used`, which is in order. */
function without(range: ByteRange, used: readonly ByteRange[]): ByteRange[] {
  const rest: ByteRange[] = [];
  let at = range.offset;
  for (const { offset, length } of used) {
    if (offset > at) rest.push({ offset: at, length: offset - at });
    at = offset + length;
  }
  const end = range.offset + range.length;
  if (end > at) rest.push({ offset: at, length: end - at });
  return rest;
}

/** What of an extent has storage: the rest are holes of the file. */
export function* storedPieces(extent: DataExtent): Generator<DataExtent> {
  const { file, fileOffset } = extent;
  const end = fileOffset + extent.length;
  for (let data = file.nextData(fileOffset, end); data; data = file.nextData(data.offset + data.length, end))
    yield clipExtent(extent, extent.offset + (data.offset - fileOffset), data.length);
}

/** The whole blocks of the host's file system in an extent; undefined when there are too few. */
function wholeBlocks(extent: DataExtent): DataExtent | undefined {
  const { offset, fileOffset } = extent;
  const start = roundUp(fileOffset, HOST_BLOCK);
  const end = Math.floor((fileOffset + extent.length) / HOST_BLOCK) * HOST_BLOCK;
  return end - start < SMALLEST_HOLE
    ? undefined
    : clipExtent(extent, offset + (start - fileOffset), end - start);
}

function total(parts: readonly DataExtent[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

/** What is located at once: bounds the number of extents, and takes large empty disks in large steps. */
function windowOf({ format, type }: DiskImage, unit: number): number {
  // Without sector bitmaps a block is at most one extent.
  if (format === 'vhdx' && type !== 'differencing') return unit * BLOCKS_AT_ONCE;
  return Math.max(unit, Math.floor(LOCATE_WINDOW / unit) * unit);
}

class Judge {
  readonly #image: DiskImage;
  readonly #options: DecideOptions;
  readonly #scan = new ContentScan();

  constructor(image: DiskImage, options: DecideOptions) {
    this.#image = image;
    this.#options = options;
  }

  async decide(block: ByteRange, parts: readonly DataExtent[], used: readonly ByteRange[]) {
    const stored = total(parts);
    const kept = clipped(parts, used);
    const action = await this.#action(kept);
    const { offset, length } = block;
    // Zero where the parent shows something: parts that are the parent's must stay so.
    if (action && (action === 'discard' || stored === length)) {
      const reason = total(kept) === stored ? ('zeros' as const) : ('freeSpace' as const);
      return { offset, length, action, reason, parts, stored };
    }
    return this.#hollow(block, clipped(parts, without(block, used)));
  }

  async #action(kept: readonly DataExtent[]): Promise<'discard' | 'zero' | undefined> {
    if (kept.length === 0) return 'discard';
    if (!this.#options.zeros) return undefined;
    const { below } = this.#options;
    if (!below) return (await this.#all(kept, (part) => this.#scan.isZero(part))) ? 'discard' : undefined;
    if (await this.#all(kept, (part) => this.#scan.isSame(part, below))) return 'discard';
    return (await this.#all(kept, (part) => this.#scan.isZero(part))) ? 'zero' : undefined;
  }

  #hollow({ offset, length }: ByteRange, free: readonly DataExtent[]): Decision | undefined {
    if (!this.#image.file.punch) return undefined;
    const parts = free.flatMap((part) => {
      const whole = wholeBlocks(part);
      return whole ? [...storedPieces(whole)] : [];
    });
    if (parts.length === 0) return undefined;
    return { offset, length, action: 'hollow', reason: 'freeSpace', parts, stored: total(parts) };
  }

  async #all(parts: readonly DataExtent[], holds: (part: DataExtent) => Promise<boolean>): Promise<boolean> {
    for (const part of parts) if (!(await holds(part))) return false;
    return true;
  }
}

/**
 * What can be given back, in disk order.
 * @throws IMAGE_CORRUPT when a table or a file system turns out to contradict itself, IO_FAILED
 */
export async function* decide(image: DiskImage, options: DecideOptions): AsyncGenerator<Decision> {
  const unit = image.blockSize ?? UNIT;
  const window = windowOf(image, unit);
  const free = new FreeCursor(options.free);
  const judge = new Judge(image, options);
  try {
    for (let at = 0; at < image.virtualSize; at += window) {
      const range = { offset: at, length: Math.min(window, image.virtualSize - at) };
      const extents = await image.locate(range.offset, range.length);
      const isStored = extents.some(({ state }) => state === 'data');
      if (isStored)
        for (const block of perBlock(extents, range, unit)) {
          let parts = clipped(block.extents, [block]);
          // Blocks of a fixed image keep their places: what was given back before is a hole.
          if (image.type === 'fixed') parts = parts.flatMap((part) => [...storedPieces(part)]);
          if (parts.length === 0) continue;
          const decision = await judge.decide(block, parts, await free.used(block.offset, block.length));
          if (decision) yield decision;
        }
      options.onProgress?.(range.offset + range.length);
    }
  } finally {
    await free.close();
  }
}
