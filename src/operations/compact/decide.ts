/**
 * Which stored blocks nobody needs, and what is to become of them.
 *
 * Invariants: a block is given back only when every stored byte of it is either in a range that its file
 * system calls free, or (with `zeros`) shows the same when it is not stored any more. Blocks are judged one
 * by one in disk order with flat memory.
 *
 * `discard`: forget the block; `zero`: say that it is zero (a child whose parent shows something else there).
 */
import { KiB } from '../../base/bytes.js';
import { type DataExtent, type Extent, LOCATE_WINDOW, type Locator } from '../../block/extent.js';
import type { DiskImage } from '../../formats/disk-image.js';
import type { ByteRange } from '../../io/random-access-file.js';
import { ContentScan } from './content-scan.js';
import { FreeCursor } from './free-cursor.js';

export interface Decision {
  /** Range of the disk: one block, or the end of the disk. */
  offset: number;
  length: number;
  action: 'discard' | 'zero';
  reason: 'zeros' | 'freeSpace';
  /** Bytes stored in it. */
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

function storedParts(extents: readonly Extent[], used: readonly ByteRange[]): DataExtent[] {
  const parts: DataExtent[] = [];
  for (const extent of extents) {
    if (extent.state !== 'data') continue;
    for (const { offset, length } of used) {
      const start = Math.max(offset, extent.offset);
      const end = Math.min(offset + length, extent.offset + extent.length);
      if (start >= end) continue;
      const fileOffset = extent.fileOffset + (start - extent.offset);
      parts.push({ ...extent, offset: start, length: end - start, fileOffset });
    }
  }
  return parts;
}

/** Splits the extents of a window at block boundaries; `visit` gets each block's own. */
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
      const start = Math.max(at, extent.offset);
      const length = Math.min(stop, extent.offset + extent.length) - start;
      if (extent.state === 'data') {
        own.push({
          ...extent,
          offset: start,
          length,
          fileOffset: extent.fileOffset + (start - extent.offset),
        });
      } else own.push({ ...extent, offset: start, length });
      if (extent.offset + extent.length > stop) break;
    }
    yield { offset: at, length: stop - at, extents: own };
    at = stop;
  }
}

class Judge {
  readonly #options: DecideOptions;
  readonly #scan = new ContentScan();

  constructor(options: DecideOptions) {
    this.#options = options;
  }

  async action(parts: readonly DataExtent[]): Promise<Decision['action'] | undefined> {
    if (parts.length === 0) return 'discard';
    if (!this.#options.zeros) return undefined;
    const { below } = this.#options;
    if (!below) return (await this.#all(parts, (part) => this.#scan.isZero(part))) ? 'discard' : undefined;
    if (await this.#all(parts, (part) => this.#scan.isSame(part, below))) return 'discard';
    return (await this.#all(parts, (part) => this.#scan.isZero(part))) ? 'zero' : undefined;
  }

  async #all(parts: readonly DataExtent[], holds: (part: DataExtent) => Promise<boolean>): Promise<boolean> {
    for (const part of parts) if (!(await holds(part))) return false;
    return true;
  }
}

/**
 * The blocks that can be given back, in disk order.
 * @throws IMAGE_CORRUPT when a table or a file system turns out to contradict itself, IO_FAILED
 */
export async function* decide(image: DiskImage, options: DecideOptions): AsyncGenerator<Decision> {
  const unit = image.blockSize ?? UNIT;
  const window = Math.max(unit, Math.floor(LOCATE_WINDOW / unit) * unit);
  const free = new FreeCursor(options.free);
  const judge = new Judge(options);
  try {
    for (let at = 0; at < image.virtualSize; at += window) {
      const range = { offset: at, length: Math.min(window, image.virtualSize - at) };
      const extents = await image.locate(range.offset, range.length);
      for (const block of perBlock(extents, range, unit)) {
        const stored = block.extents.reduce((sum, e) => sum + (e.state === 'data' ? e.length : 0), 0);
        if (stored === 0) continue;
        const used = await free.used(block.offset, block.length);
        const parts = storedParts(block.extents, used);
        const action = await judge.action(parts);
        // Zero where the parent shows something: parts that are the parent's must stay so.
        if (!action || (action === 'zero' && stored < block.length)) continue;
        const kept = parts.reduce((sum, part) => sum + part.length, 0);
        const reason = kept === stored ? 'zeros' : 'freeSpace';
        yield { offset: block.offset, length: block.length, action, reason, stored };
      }
      options.onProgress?.(range.offset + range.length);
    }
  } finally {
    await free.close();
  }
}
