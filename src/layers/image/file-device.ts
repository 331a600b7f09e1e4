/**
 * A raw image or a block device as a device: place on the disk = place in the file.
 *
 * Invariants: there is no metadata, so nothing is held while requests run; the kernel keeps overlapping writes
 * apart. Ranges are those of the disk, whose size does not change while it is open.
 *
 * Not here: locks between processes, who may write (operations).
 */

import { KiB, MiB, roundDown, roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import { GroupCommit } from '../../base/group-commit.js';
import type { Timer } from '../../base/timer.js';
import type {
  BlockDevice,
  DeviceCapabilities,
  DeviceExtent,
  DeviceWriteOptions,
  DeviceZeroOptions,
} from '../../block/block-device.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { DirtyTimer } from './dirty-timer.js';
import { QuickWriter } from './quick-writer.js';

const ZEROS = new Uint8Array(MiB);
/** Runs that one answer of `extents` holds at most. */
const MAX_EXTENTS = 1024;
/** Block devices give back and zero pieces of this size and alignment. */
const DEVICE_UNIT = 4 * KiB;

export interface FileDeviceOptions {
  label?: string;
  /** Bytes; default: the file's. */
  size?: number;
  /** Default: as the file. */
  writable?: boolean;
  timer: Timer;
  /** Milliseconds after which changes are flushed without being asked. */
  flushAfter: number;
  /** Closes the file and what goes with it. Default: the file alone. */
  close?: () => Promise<void>;
}

export class FileDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize = 1;
  readonly preferredSize = 4 * KiB;
  readonly capabilities: DeviceCapabilities;
  readonly readNow?: (buffer: Uint8Array, offset: number) => boolean;
  readonly writeNow?: (bytes: Uint8Array, offset: number) => boolean;
  readonly #file: RandomAccessFile;
  /** Ranges given back or zeroed cheaply are multiples of it. */
  readonly #unit: number;
  readonly #flushes: GroupCommit<void>;
  readonly #dirty: DirtyTimer;
  readonly #closeFile: () => Promise<void>;

  /** The file belongs to the device from now on: `close` closes it. */
  constructor(file: RandomAccessFile, options: FileDeviceOptions) {
    const { label = file.path, size = file.size(), writable = file.writable, timer, flushAfter } = options;
    this.#file = file;
    this.#closeFile = options.close ?? (() => file.close());
    this.label = label;
    this.size = size;
    this.#unit = file.kind === 'device' ? DEVICE_UNIT : 1;
    const punches = writable && file.punch !== undefined;
    this.capabilities = {
      writable,
      trim: punches,
      zero: writable,
      fastZero: punches,
      extents: true,
      multiConn: true,
    };
    this.#flushes = new GroupCommit(() => file.flush());
    this.#dirty = new DirtyTimer(timer, flushAfter, () => this.#flushes.add());
    if (file.peek) this.readNow = (buffer, offset) => file.peek?.(buffer, offset) ?? false;
    if (writable && (file.poke || file.writeHere)) {
      const quick = new QuickWriter(timer);
      this.writeNow = (bytes, offset) => {
        if (!quick.write(file, bytes, offset)) return false;
        this.#dirty.changed();
        return true;
      };
    }
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const count = await this.#file.read(buffer, offset);
    // A file that somebody made shorter: what is missing is zero, as when it is made longer again.
    if (count < buffer.length) buffer.fill(0, count);
  }

  async write(bytes: Uint8Array, offset: number, options: DeviceWriteOptions = {}): Promise<void> {
    await this.#file.write(bytes, offset);
    await this.#changed(options);
  }

  async zero(offset: number, length: number, options: DeviceZeroOptions = {}): Promise<void> {
    const start = roundUp(offset, this.#unit);
    const end = Math.max(start, roundDown(offset + length, this.#unit));
    if (end > start) await this.#zeroUnits(start, end - start, options);
    if (start > offset) await this.#writeZeros(offset, Math.min(start, offset + length) - offset);
    if (offset + length > end)
      await this.#writeZeros(Math.max(end, offset), offset + length - Math.max(end, offset));
    await this.#changed(options);
  }

  async trim(offset: number, length: number, options: DeviceWriteOptions = {}): Promise<void> {
    const start = roundUp(offset, this.#unit);
    const end = roundDown(offset + length, this.#unit);
    if (end > start) await this.#file.punch?.(start, end - start);
    await this.#changed(options);
  }

  async flush(): Promise<void> {
    this.#dirty.settled();
    await this.#flushes.add();
  }

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    const found: DeviceExtent[] = [];
    const end = offset + length;
    for (let at = offset; at < end && found.length < MAX_EXTENTS; ) {
      const data = this.#file.nextData(at, end);
      const start = data ? data.offset : end;
      if (start > at) found.push({ offset: at, length: start - at, hole: true, zero: true });
      if (data) found.push({ ...data, hole: false, zero: false });
      at = data ? data.offset + data.length : end;
    }
    return found;
  }

  async close(): Promise<void> {
    await this.#dirty.stop();
    try {
      if (this.capabilities.writable) await this.flush();
    } finally {
      await this.#closeFile();
    }
  }

  async #changed({ durable = false }: DeviceWriteOptions): Promise<void> {
    if (durable) await this.flush();
    else this.#dirty.changed();
  }

  async #zeroUnits(offset: number, length: number, options: DeviceZeroOptions): Promise<void> {
    const file = this.#file;
    const { keepStorage = false, fast = false } = options;
    if (keepStorage) {
      if (await file.zeroInPlace?.(offset, length)) return;
    } else if (await file.punch?.(offset, length)) return;
    if (fast) {
      throw new VhdkitError('UNSUPPORTED', `${this.label} has no quick way to zero a range`, {
        operation: 'zero range',
        context: { path: this.label, offset, length },
      });
    }
    await this.#writeZeros(offset, length);
  }

  async #writeZeros(offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += ZEROS.length) {
      await this.#file.write(ZEROS.subarray(0, Math.min(ZEROS.length, length - at)), offset + at);
    }
  }
}
