/**
 * Space in the file of an image that is being changed.
 *
 * Invariants: everything is given out on 1 MiB boundaries (MS-VHDX 2.1); space that was given back is
 * given out again only after the change of metadata that no longer names it is durable (`settle`), so that a
 * crash never finds another block's bytes in a block. The lowest gap that is large enough comes first, then
 * the end.
 *
 * Memory: one bit per MiB of the file.
 */
import { assert } from '../../base/assert.js';
import { MiB, roundUp } from '../../base/bytes.js';
import type { ByteRange, RandomAccessFile } from '../../io/random-access-file.js';
import type { SpaceMap } from './space-map.js';

export class SpaceAllocator {
  readonly #file: RandomAccessFile;
  readonly #space: SpaceMap;
  /** End of everything in use, in MiB. */
  #end: number;
  /** Below this every MiB is taken. */
  #lowest = 0;
  /** No gap is as large as this (MiB). */
  #hopeless = Number.POSITIVE_INFINITY;
  #released: ByteRange[] = [];

  /** @param space what is taken; belongs to the allocator from now on */
  constructor(file: RandomAccessFile, space: SpaceMap, highest: number) {
    this.#file = file;
    this.#space = space;
    this.#end = space.endBefore(Math.ceil(highest / MiB));
  }

  /** End of everything given out, bytes. */
  get end(): number {
    return this.#end * MiB;
  }

  /** Ranges given back that wait for `settle`. */
  get waiting(): number {
    return this.#released.length;
  }

  /**
   * Gives out space of whole MiB; the file reaches to its end afterwards.
   * @param zeroed whether it must read as zeros; else it may show what was there before
   * @throws NO_SPACE, IO_FAILED
   */
  async claim(length: number, zeroed: boolean): Promise<number> {
    const offset = this.#take(length / MiB) * MiB;
    try {
      const size = this.#file.size();
      if (zeroed && offset < size) await this.#file.zero(offset, Math.min(length, size - offset));
      if (size < offset + length) await this.#file.truncate(offset + length);
    } catch (error) {
      this.unclaim(offset, length);
      throw error;
    }
    return offset;
  }

  /** Takes space that is free, where something was put. Whole MiB. */
  occupy(offset: number, length: number): void {
    const conflict = this.#space.take(offset / MiB, length / MiB);
    assert(!conflict, 'what is put somewhere is put where nothing is');
    this.#end = Math.max(this.#end, (offset + length) / MiB);
  }

  /** Takes back what was given out but never named by metadata. */
  unclaim(offset: number, length: number): void {
    this.#give({ offset, length });
  }

  /** Space that metadata names no more, once the change is durable. */
  release(offset: number, length: number): void {
    this.#released.push({ offset, length });
  }

  /** The metadata is durable: what was released is free. */
  async settle(): Promise<void> {
    const ranges = joined(this.#released);
    this.#released = [];
    for (const range of ranges) this.#give(range);
    // What lies behind everything in use is cut off in the end.
    for (const range of ranges) if (range.offset < this.end) await this.#punch(range);
  }

  /** The same for any amount of space at once, of which the metadata was made durable before. */
  async giveBack(freed: SpaceMap): Promise<void> {
    for (const { first, count } of freed.runs()) {
      const range = { offset: first * MiB, length: count * MiB };
      this.#give(range);
      await this.#punch(range);
    }
  }

  /** Only a service to the storage: what is claimed again is zeroed then. */
  async #punch({ offset, length }: ByteRange): Promise<void> {
    const end = Math.min(offset + length, this.#file.size());
    if (end > offset) await this.#file.punch?.(offset, end - offset);
  }

  #give({ offset, length }: ByteRange): void {
    this.#space.give(offset / MiB, roundUp(length, MiB) / MiB);
    this.#lowest = Math.min(this.#lowest, offset / MiB);
    this.#hopeless = Number.POSITIVE_INFINITY;
    if (offset + length === this.end) this.#end = this.#space.endBefore(this.#end);
  }

  #take(count: number): number {
    let first: number | undefined;
    const gaps = this.#end - this.#space.taken;
    if (gaps >= count && count < this.#hopeless) {
      const free = this.#space.findFree(this.#lowest, this.#end, 1);
      this.#lowest = free ?? this.#end;
      first = this.#space.findFree(this.#lowest, this.#end, count);
      if (first === undefined) this.#hopeless = count;
    }
    const place = first ?? this.#end;
    this.#space.take(place, count);
    this.#end = Math.max(this.#end, place + count);
    return place;
  }
}

/** The ranges in file order, neighbours as one. */
function joined(ranges: readonly ByteRange[]): ByteRange[] {
  const result: ByteRange[] = [];
  for (const { offset, length } of [...ranges].sort((a, b) => a.offset - b.offset)) {
    const last = result.at(-1);
    if (last && last.offset + last.length === offset) last.length += length;
    else result.push({ offset, length });
  }
  return result;
}
