/**
 * Reading a chain of images as one disk: what devices over images have in common.
 *
 * Invariants: where a block is, is looked up at most once by several requests at a time; while a request uses
 * what it found, the block's mapping does not change (`hold`). Memory is that of the cache, whatever the disk.
 */
import { MiB } from '../../base/bytes.js';
import type { DeviceExtent } from '../../block/block-device.js';
import type { Chain } from '../../formats/chain.js';
import { BlockCache, type Segment, segmentOf } from './block-cache.js';

/** Blocks that are larger are looked up in parts. */
const LARGEST_UNIT = 32 * MiB;
/** Of disks without blocks. */
const USUAL_UNIT = 2 * MiB;
/** Bytes of the disk looked at in one go for `extents`. */
const WINDOW = 64 * MiB;
/** Runs that one answer of `extents` holds at most, and bytes that it covers. */
const MAX_EXTENTS = 1024;
const MAX_SPAN = 1024 * WINDOW;

/** Runs work while the mapping of a range stays as it is. */
export type Hold = <T>(offset: number, length: number, work: () => Promise<T>) => Promise<T>;

/** Waits for all, whatever becomes of them; then the first failure counts. */
export async function allEnded(work: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason;
}

function unitOf(blockSize: number | undefined): number {
  if (blockSize === undefined) return USUAL_UNIT;
  return blockSize > LARGEST_UNIT && blockSize % LARGEST_UNIT === 0 ? LARGEST_UNIT : blockSize;
}

export class ChainReader {
  readonly #chain: Chain;
  readonly #hold: Hold;
  readonly #cache: BlockCache;
  readonly #loading = new Map<number, Promise<readonly Segment[]>>();

  constructor(chain: Chain, hold: Hold) {
    this.#chain = chain;
    this.#hold = hold;
    this.#cache = new BlockCache(unitOf(chain.top.blockSize));
  }

  /** The segment with all of a range, where that is known. */
  known(offset: number, length: number): Segment | undefined {
    return this.#cache.find(offset, length);
  }

  /** To be called, by whoever keeps others away, before the mapping of a range changes and after. */
  forget(offset: number, length: number): void {
    this.#cache.forget(offset, length);
  }

  readNow(buffer: Uint8Array, offset: number): boolean {
    const segment = this.#cache.find(offset, buffer.length);
    if (!segment) return false;
    if (segment.file) return segment.file.peek?.(buffer, offset + segment.shift) ?? false;
    buffer.fill(0);
    return true;
  }

  read(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#hold(offset, buffer.length, () => this.readHeld(buffer, offset));
  }

  /** The same for whoever keeps changes away already. */
  async readHeld(buffer: Uint8Array, offset: number): Promise<void> {
    const segments = await this.segments(offset, buffer.length);
    const [only] = segments;
    if (only && segments.length === 1) return readSegment(only, buffer);
    await allEnded(
      segments.map((segment) =>
        readSegment(segment, buffer.subarray(segment.offset - offset, segment.end - offset)),
      ),
    );
  }

  /** What a range consists of, in order. The caller keeps changes away. */
  async segments(offset: number, length: number): Promise<Segment[]> {
    const { unit } = this.#cache;
    const found: Segment[] = [];
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / unit);
      const stop = Math.min(end, (block + 1) * unit);
      let segments = this.#cache.block(block) ?? (await this.#load(block));
      if (segments.length === 0) segments = await this.#locate(at, stop - at);
      for (const segment of segments) {
        if (segment.end <= at || segment.offset >= stop) continue;
        found.push({ ...segment, offset: Math.max(at, segment.offset), end: Math.min(stop, segment.end) });
      }
      at = stop;
    }
    return joined(found);
  }

  /** See BlockDevice. Holes of the files below count as zeros. */
  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    const found: DeviceExtent[] = [];
    const end = Math.min(offset + length, offset + MAX_SPAN);
    for (let at = offset; at < end && found.length < MAX_EXTENTS; ) {
      const size = Math.min(WINDOW - (at % WINDOW), end - at);
      at = await this.#hold(at, size, async () => {
        for (const segment of await this.segments(at, size)) {
          if (!pushRuns(found, segment)) break;
        }
        const last = found.at(-1);
        return last ? last.offset + last.length : end;
      });
    }
    return found;
  }

  /** Blocks that are in too many pieces are looked up without being kept. */
  async #locate(offset: number, length: number): Promise<Segment[]> {
    return (await this.#chain.locate(offset, length)).map(segmentOf);
  }

  #load(block: number): Promise<readonly Segment[]> {
    const known = this.#loading.get(block);
    if (known) return known;
    const { unit } = this.#cache;
    const start = block * unit;
    const loading = this.#locate(start, Math.min(unit, this.#chain.virtualSize - start)).then((segments) => {
      this.#cache.keep(block, segments);
      return segments;
    });
    const forgotten = loading.finally(() => this.#loading.delete(block));
    this.#loading.set(block, forgotten);
    return forgotten;
  }
}

/** A cut block reads as zeros behind the file's end; the format judged it when it was located. */
async function readSegment(segment: Segment, buffer: Uint8Array): Promise<void> {
  const { file, offset, shift } = segment;
  const count = file ? await file.read(buffer, offset + shift) : 0;
  if (count < buffer.length) buffer.fill(0, count);
}

function joined(segments: readonly Segment[]): Segment[] {
  const result: Segment[] = [];
  for (const segment of segments) {
    const last = result.at(-1);
    const joins =
      last && last.file === segment.file && last.own === segment.own && last.shift === segment.shift;
    if (last && joins) last.end = segment.end;
    else result.push(segment);
  }
  return result;
}

function push(found: DeviceExtent[], offset: number, length: number, empty: boolean): void {
  if (length === 0) return;
  const last = found.at(-1);
  if (last && last.zero === empty) last.length += length;
  else found.push({ offset, length, hole: empty, zero: empty });
}

/** Appends what a segment consists of, holes of its file included. False when there is no room for all of it. */
export function pushRuns(found: DeviceExtent[], { offset, end, file, shift }: Segment): boolean {
  if (!file) {
    push(found, offset, end - offset, true);
    return true;
  }
  for (let at = offset; at < end; ) {
    if (found.length >= MAX_EXTENTS) return false;
    const data = file.nextData(at + shift, end + shift);
    const start = data ? data.offset - shift : end;
    push(found, at, start - at, true);
    at = start;
    if (!data) break;
    push(found, at, data.length, false);
    at += data.length;
  }
  return true;
}
