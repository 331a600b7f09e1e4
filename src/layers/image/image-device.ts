/**
 * A chain whose top image is open for writing, as a device.
 *
 * Invariants: `flush` makes everything durable that was answered before, the format's metadata included;
 * nothing that was changed waits for longer than `flushAfter` without a flush, so that a process that is
 * killed loses little. Closing flushes.
 *
 * Not here: how changes are kept apart (image-changes.ts), locks between processes (operations).
 */

import { KiB } from '../../base/bytes.js';
import { GroupCommit } from '../../base/group-commit.js';
import type { Timer } from '../../base/timer.js';
import type {
  BlockDevice,
  DeviceCapabilities,
  DeviceExtent,
  DeviceWriteOptions,
  DeviceZeroOptions,
} from '../../block/block-device.js';
import type { Chain } from '../../formats/chain.js';
import type { EditableImage } from '../../formats/editable-image.js';
import { DirtyTimer } from './dirty-timer.js';
import { ImageChanges } from './image-changes.js';

export interface ImageDeviceOptions {
  /** Default: the top image's path. */
  label?: string;
  timer: Timer;
  /** Milliseconds after which changes are flushed without being asked. */
  flushAfter: number;
  /** Closes the images; they belong to the device from now on. */
  close: () => Promise<void>;
}

export class ImageDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize = 1;
  readonly preferredSize = 4 * KiB;
  readonly capabilities: DeviceCapabilities;
  readonly #changes: ImageChanges;
  readonly #flushes: GroupCommit<void>;
  readonly #dirty: DirtyTimer;
  readonly #closeImages: () => Promise<void>;

  /** @param chain the top as it is being changed, and its parents */
  constructor(chain: Chain, top: EditableImage, options: ImageDeviceOptions) {
    const { label = top.file.path, timer, flushAfter, close } = options;
    this.label = label;
    this.size = chain.virtualSize;
    this.capabilities = {
      writable: true,
      trim: top.type !== 'fixed',
      zero: true,
      fastZero: top.file.punch !== undefined,
      extents: true,
      multiConn: true,
    };
    this.#changes = new ImageChanges(chain, top, timer);
    this.#flushes = new GroupCommit(() => top.flush());
    this.#dirty = new DirtyTimer(timer, flushAfter, () => this.#flushes.add());
    this.#closeImages = close;
  }

  read(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#changes.reader.read(buffer, offset);
  }

  readNow(buffer: Uint8Array, offset: number): boolean {
    return this.#changes.reader.readNow(buffer, offset);
  }

  async write(bytes: Uint8Array, offset: number, options: DeviceWriteOptions = {}): Promise<void> {
    await this.#changes.write(bytes, offset);
    await this.#changed(options);
  }

  writeNow(bytes: Uint8Array, offset: number): boolean {
    if (!this.#changes.writeNow(bytes, offset)) return false;
    this.#dirty.changed();
    return true;
  }

  async zero(offset: number, length: number, options: DeviceZeroOptions = {}): Promise<void> {
    await this.#changes.zero(offset, length, options);
    await this.#changed(options);
  }

  async trim(offset: number, length: number, options: DeviceWriteOptions = {}): Promise<void> {
    await this.#changes.trim(offset, length);
    await this.#changed(options);
  }

  async flush(): Promise<void> {
    this.#dirty.settled();
    await this.#flushes.add();
  }

  extents(offset: number, length: number): Promise<DeviceExtent[]> {
    return this.#changes.reader.extents(offset, length);
  }

  async close(): Promise<void> {
    await this.#dirty.stop();
    try {
      await this.flush();
    } finally {
      await this.#closeImages();
    }
  }

  async #changed({ durable = false }: DeviceWriteOptions): Promise<void> {
    if (durable) await this.flush();
    else this.#dirty.changed();
  }
}
