/**
 * The two volumes as block devices: the front door, which is the live volume once there are two, and the
 * preserved volume.
 *
 * Invariant: which volume a request belongs to is settled when it arrives, before anything is awaited.
 */
import { VhdkitError } from '../../base/errors.js';
import type {
  BlockDevice,
  DeviceCapabilities,
  DeviceExtent,
  DeviceWriteOptions,
  DeviceZeroOptions,
} from '../../block/block-device.js';
import { closeCopies } from './copies.js';
import type { Change, VolumePair } from './volume-pair.js';

/** A write, a zero or a trim as a change of the pair. */
function writing(base: BlockDevice, bytes: Uint8Array, offset: number): Change {
  return {
    offset,
    length: bytes.length,
    onBase: () => base.write(bytes, offset),
    onCopy: (data, at, length) => data.write(bytes.subarray(at - offset, at - offset + length), at),
  };
}

function zeroing(base: BlockDevice, offset: number, length: number, options: DeviceZeroOptions): Change {
  const { durable: _, ...rest } = options;
  return {
    offset,
    length,
    onBase: () => base.zero(offset, length, rest),
    onCopy: (data, at, count) => data.zero(at, count),
  };
}

abstract class Volume implements BlockDevice {
  protected readonly pair: VolumePair;
  abstract readonly label: string;
  abstract readonly capabilities: DeviceCapabilities;

  constructor(pair: VolumePair) {
    this.pair = pair;
  }

  get size(): number {
    return this.pair.base.size;
  }

  get blockSize(): number {
    return this.pair.base.blockSize;
  }

  get preferredSize(): number {
    return this.pair.base.preferredSize;
  }

  abstract read(buffer: Uint8Array, offset: number): Promise<void>;
  abstract extents(offset: number, length: number): Promise<DeviceExtent[]>;
  abstract trim(offset: number, length: number, options?: DeviceWriteOptions): Promise<void>;
  abstract close(): Promise<void>;
  protected abstract change(change: Change): Promise<void>;

  async write(bytes: Uint8Array, offset: number, options: DeviceWriteOptions = {}): Promise<void> {
    await this.change(writing(this.pair.base, bytes, offset));
    if (options.durable) await this.flush();
  }

  async zero(offset: number, length: number, options: DeviceZeroOptions = {}): Promise<void> {
    await this.change(zeroing(this.pair.base, offset, length, options));
    if (options.durable) await this.flush();
  }

  flush(): Promise<void> {
    return this.pair.flush();
  }
}

/** What everybody used before there were two volumes, and the live one since. Closing it closes the base and the copies. */
export class FrontVolume extends Volume {
  readonly #closed: (() => Promise<void>) | undefined;

  /** @param closed called when everything is flushed and closed */
  constructor(pair: VolumePair, closed?: () => Promise<void>) {
    super(pair);
    this.#closed = closed;
  }

  get label(): string {
    return this.pair.base.label;
  }

  get capabilities(): DeviceCapabilities {
    return this.pair.base.capabilities;
  }

  override async zero(offset: number, length: number, options: DeviceZeroOptions = {}): Promise<void> {
    const { pair } = this;
    // Copying old data takes as long as it takes.
    if (options.fast && pair.copies && !pair.isSettled('live', offset, length)) {
      throw new VhdkitError('UNSUPPORTED', `${this.label}: zeros are not fast where old data must be kept`, {
        operation: 'zero',
        context: { path: this.label, offset, length },
        hint: 'Write zeros without asking for speed.',
      });
    }
    await super.zero(offset, length, options);
  }

  read(buffer: Uint8Array, offset: number): Promise<void> {
    return this.pair.base.read(buffer, offset);
  }

  readNow(buffer: Uint8Array, offset: number): boolean {
    return this.pair.base.readNow?.(buffer, offset) ?? false;
  }

  writeNow(bytes: Uint8Array, offset: number): boolean {
    const { pair } = this;
    if (!pair.base.writeNow || !pair.isSettled(pair.arriving, offset, bytes.length)) return false;
    return pair.base.writeNow(bytes, offset);
  }

  async trim(offset: number, length: number, options: DeviceWriteOptions = {}): Promise<void> {
    const { base } = this.pair;
    await this.change({
      offset,
      length,
      onBase: () => base.trim(offset, length),
      // Trimmed is whatever it is: the copy may keep what it has.
      onCopy: async () => undefined,
    });
    if (options.durable) await this.flush();
  }

  extents(offset: number, length: number): Promise<DeviceExtent[]> {
    return this.pair.base.extents(offset, length);
  }

  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      try {
        const copies = await this.pair.join();
        if (copies) await closeCopies(copies);
      } finally {
        await this.pair.base.close();
      }
    }
    await this.#closed?.();
  }

  protected change(change: Change): Promise<void> {
    return this.pair.change(this.pair.arriving, change);
  }
}

/** The volume as it was when the two parted, and what is written to it. Closing it changes nothing. */
export class PreservedVolume extends Volume {
  readonly #name: string;

  constructor(pair: VolumePair, name: string) {
    super(pair);
    this.#name = name;
  }

  get label(): string {
    return `${this.pair.base.label}@${this.#name}`;
  }

  get capabilities(): DeviceCapabilities {
    return { ...this.pair.base.capabilities, trim: false, fastZero: false };
  }

  read(buffer: Uint8Array, offset: number): Promise<void> {
    return this.pair.readPreserved(buffer, offset);
  }

  /** Both volumes share the base's storage: nothing is given back here. */
  async trim(): Promise<void> {}

  extents(offset: number, length: number): Promise<DeviceExtent[]> {
    return this.pair.extentsPreserved(offset, length);
  }

  async close(): Promise<void> {
    await this.flush();
  }

  protected change(change: Change): Promise<void> {
    return this.pair.changePreserved(change);
  }
}
