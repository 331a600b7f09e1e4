/**
 * What an image file holds besides payload, kept in memory: the file that an image is laid out in when it
 * is going to be written as a stream.
 *
 * Invariant: reads give what was written, and zeros elsewhere. Equal bytes written again and again at equal
 * distances (the bitmaps in front of a VHD's blocks) are kept once, with their distance and count, so that
 * memory does not grow with the disk; what was written this way is never written again.
 *
 * Deliberately not for payload: whoever prepares a write here does not carry it out.
 */
import { assert } from '../base/assert.js';
import { MemoryFile } from './memory-file.js';
import type { ByteRange, FileFingerprint, RandomAccessFile } from './random-access-file.js';

/** Longest bytes looked at for repetition: the bitmap of the largest VHD block (256 MiB). */
const MAX_REPEATED = 64 * 1024;

/** The same bytes at `offset`, `offset + stride`, … */
interface Repetition {
  bytes: Uint8Array;
  offset: number;
  stride: number;
  count: number;
}

function endOf({ bytes, offset, stride, count }: Repetition): number {
  return offset + stride * (count - 1) + bytes.length;
}

/** The first of the repeated places that ends behind `at`, or undefined. */
function placeBehind(run: Repetition, at: number): number | undefined {
  const { bytes, offset, stride, count } = run;
  const index = Math.max(0, Math.floor((at - offset - bytes.length) / stride) + 1);
  return index < count ? offset + index * stride : undefined;
}

export class LayoutFile implements RandomAccessFile {
  readonly path: string;
  readonly kind = 'memory';
  readonly fd = undefined;
  readonly writable = true;
  readonly #single: MemoryFile;
  /** In file order, without overlaps. */
  readonly #repeated: Repetition[] = [];
  /** The last short write, which the next may repeat. */
  #last: { bytes: Uint8Array; offset: number } | undefined;

  constructor(name: string) {
    this.path = name;
    this.#single = new MemoryFile(new Uint8Array(0), name);
  }

  size(): number {
    return this.#single.size();
  }

  async read(buffer: Uint8Array, offset: number): Promise<number> {
    const count = await this.#single.read(buffer, offset);
    for (const run of this.#repeated) copyOut(run, buffer.subarray(0, count), offset);
    return count;
  }

  async write(buffer: Uint8Array, offset: number): Promise<void> {
    if (this.#repeats(buffer, offset)) {
      const end = offset + buffer.length;
      if (end > this.#single.size()) await this.#single.truncate(end);
      return;
    }
    this.#assertFree(offset, offset + buffer.length);
    await this.#single.write(buffer, offset);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#assertFree(offset, offset + length);
    await this.#single.zero(offset, length);
  }

  async truncate(size: number): Promise<void> {
    this.#assertFree(size, Number.MAX_SAFE_INTEGER);
    await this.#single.truncate(size);
  }

  async flush(): Promise<void> {}

  nextData(offset: number, end: number): ByteRange | undefined {
    let first = this.#single.nextData(offset, end);
    for (const run of this.#repeated) {
      const place = placeBehind(run, offset);
      if (place === undefined || place >= end || (first && first.offset <= place)) continue;
      const start = Math.max(place, offset);
      first = { offset: start, length: Math.min(end, place + run.bytes.length) - start };
    }
    return first;
  }

  /** What is held in memory, which no file system counts. */
  async allocatedBytes(): Promise<number> {
    const repeated = this.#repeated.reduce((sum, { bytes }) => sum + bytes.length, 0);
    return repeated + (await this.#single.allocatedBytes());
  }

  fingerprint(): FileFingerprint | undefined {
    return undefined;
  }

  async close(): Promise<void> {
    await this.#single.close();
  }

  /** Takes note of a write that says again what the one before said, further on. */
  #repeats(buffer: Uint8Array, offset: number): boolean {
    const last = this.#last;
    const run = this.#repeated.at(-1);
    if (last && last.bytes.length === buffer.length && offset >= last.offset + buffer.length) {
      if (Buffer.compare(last.bytes, buffer) === 0) {
        const { bytes } = last;
        const stride = offset - last.offset;
        last.offset = offset;
        const end = run ? endOf(run) : 0;
        if (run?.bytes === bytes && run.stride === stride && end + stride === offset + bytes.length)
          run.count += 1;
        else this.#repeated.push({ bytes, offset, stride, count: 1 });
        return true;
      }
    }
    this.#last =
      buffer.length > 0 && buffer.length <= MAX_REPEATED ? { bytes: buffer.slice(), offset } : undefined;
    return false;
  }

  #assertFree(start: number, end: number): void {
    for (const run of this.#repeated) {
      const place = placeBehind(run, start);
      assert(place === undefined || place >= end, 'repeated bytes of a layout are written once');
    }
  }
}

function copyOut(run: Repetition, buffer: Uint8Array, offset: number): void {
  const end = offset + buffer.length;
  for (let place = placeBehind(run, offset); place !== undefined && place < end; ) {
    const from = Math.max(offset, place);
    const to = Math.min(end, place + run.bytes.length);
    buffer.set(run.bytes.subarray(from - place, to - place), from - offset);
    const next = place + run.stride;
    place = next < endOf(run) ? next : undefined;
  }
}
