/**
 * A device in memory: for tests, and for disks that may be forgotten.
 *
 * Invariants: sparse (pages exist once something other than zeros was put there), and every request takes
 * effect at once, so overlapping requests happen in the order in which they were asked for.
 *
 * Deliberately without a guard: ranges are asserted, not judged.
 */
import { assert } from '../base/assert.js';
import { isPowerOfTwo } from '../base/bytes.js';
import { VhdkitError } from '../base/errors.js';
import { isZero } from '../base/zeros.js';
import type { BlockDevice, DeviceCapabilities, DeviceExtent } from './block-device.js';

const PAGE = 64 * 1024;
/** Runs that one answer of `extents` holds at most. */
const MAX_EXTENTS = 4096;

export interface MemoryDeviceOptions {
  label?: string;
  /** Default 1. */
  blockSize?: number;
  /** Default true. */
  writable?: boolean;
}

export class MemoryDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize: number;
  readonly preferredSize = 4096;
  readonly capabilities: DeviceCapabilities;
  readonly #pages = new Map<number, Uint8Array>();
  #flushes = 0;
  #closed = false;

  /** @param size bytes, a multiple of the block size */
  constructor(size: number, { label = 'memory', blockSize = 1, writable = true }: MemoryDeviceOptions = {}) {
    assert(isPowerOfTwo(blockSize), 'a block size is a power of two');
    assert(size % blockSize === 0, 'a device consists of whole blocks');
    this.label = label;
    this.size = size;
    this.blockSize = blockSize;
    const { capabilities } = MemoryDevice;
    this.capabilities = writable ? capabilities : { ...READING, extents: true, multiConn: true };
  }

  static readonly capabilities: DeviceCapabilities = {
    writable: true,
    trim: true,
    zero: true,
    fastZero: true,
    extents: true,
    multiConn: true,
  };

  /** How often it was flushed. */
  get flushes(): number {
    return this.#flushes;
  }

  /** Bytes of memory that the content takes. */
  get allocatedBytes(): number {
    return this.#pages.size * PAGE;
  }

  readNow(buffer: Uint8Array, offset: number): boolean {
    this.#assertRange(offset, buffer.length);
    this.#walk(offset, buffer.length, (page, within, length, at) => {
      const stored = this.#pages.get(page);
      const part = buffer.subarray(at, at + length);
      if (stored) part.set(stored.subarray(within, within + length));
      else part.fill(0);
    });
    return true;
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    this.readNow(buffer, offset);
  }

  writeNow(bytes: Uint8Array, offset: number): boolean {
    this.#assertRange(offset, bytes.length);
    this.#assertWritable();
    this.#walk(offset, bytes.length, (page, within, length, at) => {
      let stored = this.#pages.get(page);
      if (!stored) {
        stored = new Uint8Array(PAGE);
        this.#pages.set(page, stored);
      }
      stored.set(bytes.subarray(at, at + length), within);
    });
    return true;
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    this.writeNow(bytes, offset);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#assertRange(offset, length);
    this.#assertWritable();
    this.#walk(offset, length, (page, within, count) => {
      if (count === PAGE) this.#pages.delete(page);
      else this.#pages.get(page)?.fill(0, within, within + count);
    });
  }

  trim(offset: number, length: number): Promise<void> {
    return this.zero(offset, length);
  }

  async flush(): Promise<void> {
    assert(!this.#closed, 'a closed device is asked nothing');
    this.#flushes += 1;
  }

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    this.#assertRange(offset, length);
    const found: DeviceExtent[] = [];
    for (let at = offset; at < offset + length; ) {
      const page = Math.floor(at / PAGE);
      const end = Math.min((page + 1) * PAGE, offset + length);
      const stored = this.#pages.get(page);
      const empty = stored === undefined || isZero(stored);
      const last = found.at(-1);
      if (last && last.zero === empty) last.length += end - at;
      else if (found.length === MAX_EXTENTS) break;
      else found.push({ offset: at, length: end - at, hole: empty, zero: empty });
      at = end;
    }
    return found;
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #walk(
    offset: number,
    length: number,
    visit: (page: number, within: number, length: number, at: number) => void,
  ): void {
    for (let at = 0; at < length; ) {
      const page = Math.floor((offset + at) / PAGE);
      const within = (offset + at) % PAGE;
      const count = Math.min(length - at, PAGE - within);
      visit(page, within, count, at);
      at += count;
    }
  }

  #assertRange(offset: number, length: number): void {
    assert(!this.#closed, 'a closed device is asked nothing');
    const { blockSize, size } = this;
    assert(offset >= 0 && length >= 0 && offset + length <= size, 'a request lies inside the device');
    assert(offset % blockSize === 0 && length % blockSize === 0, 'a request consists of whole blocks');
  }

  #assertWritable(): void {
    if (this.capabilities.writable) return;
    throw new VhdkitError('READ_ONLY', `${this.label} is open for reading only`, {
      operation: 'write',
      context: { path: this.label },
    });
  }
}

const READING: DeviceCapabilities = {
  writable: false,
  trim: false,
  zero: false,
  fastZero: false,
  extents: false,
  multiConn: false,
};
