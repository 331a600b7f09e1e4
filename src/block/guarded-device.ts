/**
 * A guard in front of a device: what outsiders ask is judged here, so that devices only need to assert.
 *
 * Invariants: nothing outside the device, unaligned, or forbidden reaches it; a guard can take abilities away
 * and never adds one; what the device answers about extents is checked, because others build on it. After
 * `close` every request is refused, and `close` waits for those that are under way.
 *
 * Not here: what a request does.
 */
import { assert } from '../base/assert.js';
import { VhdkitError } from '../base/errors.js';
import type {
  BlockDevice,
  DeviceCapabilities,
  DeviceExtent,
  DeviceWriteOptions,
  DeviceZeroOptions,
} from './block-device.js';

const ABILITIES = ['writable', 'trim', 'zero', 'fastZero', 'extents', 'multiConn'] as const;

/** What both sides can do. */
export function commonCapabilities(a: DeviceCapabilities, b: DeviceCapabilities): DeviceCapabilities {
  const both = ABILITIES.map((name) => [name, a[name] && b[name]]);
  return Object.fromEntries(both) as unknown as DeviceCapabilities;
}

/** A layer that claims more than what it stands on can do is a mistake in the program. */
export function assertNotLoosened(claimed: DeviceCapabilities, allowed: DeviceCapabilities): void {
  for (const name of ABILITIES) assert(!claimed[name] || allowed[name], `a layer does not add '${name}'`);
}

export interface GuardOptions {
  /** Refuse everything that changes the device. */
  readOnly?: boolean;
  /** What the device stands on: it may not claim more. */
  within?: DeviceCapabilities;
}

/** Abilities of a device that must not be changed. */
function reading(of: DeviceCapabilities): DeviceCapabilities {
  return { ...of, writable: false, trim: false, zero: false, fastZero: false };
}

export class GuardedDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize: number;
  readonly preferredSize: number;
  readonly capabilities: DeviceCapabilities;
  readonly readNow?: (buffer: Uint8Array, offset: number) => boolean;
  readonly writeNow?: (bytes: Uint8Array, offset: number) => boolean;
  readonly #device: BlockDevice;
  #underWay = 0;
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(device: BlockDevice, { readOnly = false, within }: GuardOptions = {}) {
    const { capabilities } = device;
    if (within) assertNotLoosened(capabilities, within);
    this.#device = device;
    this.label = device.label;
    this.size = device.size;
    this.blockSize = device.blockSize;
    this.preferredSize = device.preferredSize;
    this.capabilities = readOnly || !capabilities.writable ? reading(capabilities) : capabilities;
    const { readNow, writeNow } = device;
    if (readNow) {
      this.readNow = (buffer, offset) => {
        this.#assertRange(offset, buffer.length);
        return readNow.call(device, buffer, offset);
      };
    }
    if (writeNow && this.capabilities.writable) {
      this.writeNow = (bytes, offset) => {
        this.#assertRange(offset, bytes.length);
        return writeNow.call(device, bytes, offset);
      };
    }
  }

  read(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#run(offset, buffer.length, () => this.#device.read(buffer, offset));
  }

  write(bytes: Uint8Array, offset: number, options?: DeviceWriteOptions): Promise<void> {
    return this.#change('writable', offset, bytes.length, () => this.#device.write(bytes, offset, options));
  }

  zero(offset: number, length: number, options: DeviceZeroOptions = {}): Promise<void> {
    const ability = options.fast ? 'fastZero' : 'writable';
    return this.#change(ability, offset, length, () => this.#device.zero(offset, length, options));
  }

  trim(offset: number, length: number, options?: DeviceWriteOptions): Promise<void> {
    return this.#change('trim', offset, length, () => this.#device.trim(offset, length, options));
  }

  flush(): Promise<void> {
    return this.#run(0, 0, () => this.#device.flush());
  }

  extents(offset: number, length: number): Promise<DeviceExtent[]> {
    return this.#run(offset, length, async () => {
      if (length === 0) return [];
      if (!this.capabilities.extents) return [{ offset, length, hole: false, zero: false }];
      const extents = await this.#device.extents(offset, length);
      let at = offset;
      for (const extent of extents) {
        assert(extent.offset === at && extent.length > 0, 'extents follow each other');
        at += extent.length;
      }
      assert(at >= Math.min(offset + this.blockSize, offset + length), 'extents cover the first block');
      assert(at <= offset + length, 'extents end with the range');
      return extents;
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.#device.close();
  }

  async #change(
    ability: 'writable' | 'trim' | 'fastZero',
    offset: number,
    length: number,
    work: () => Promise<void>,
  ): Promise<void> {
    const { label, capabilities } = this;
    if (!capabilities.writable) {
      throw new VhdkitError('READ_ONLY', `${label} is open for reading only`, {
        operation: 'write',
        context: { path: label, offset, length },
      });
    }
    if (!capabilities[ability]) {
      throw new VhdkitError('UNSUPPORTED', `${label} can't do this`, {
        operation: ability,
        context: { path: label, offset, length },
      });
    }
    await this.#run(offset, length, work);
  }

  async #run<T>(offset: number, length: number, work: () => Promise<T>): Promise<T> {
    this.#assertRange(offset, length);
    this.#underWay += 1;
    try {
      return await work();
    } finally {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#idle?.();
    }
  }

  /** @throws OUT_OF_RANGE, INVALID_ARGUMENT, IO_FAILED (closed) */
  #assertRange(offset: number, length: number): void {
    const { label, size, blockSize } = this;
    if (this.#closing) {
      throw new VhdkitError('IO_FAILED', `${label} is closed`, { context: { path: label } });
    }
    const isRange =
      Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0;
    if (!isRange || offset + length > size) {
      throw new VhdkitError('OUT_OF_RANGE', `${label}: the request ends outside its ${size} bytes`, {
        operation: 'access device',
        context: { path: label, offset, length },
      });
    }
    if (blockSize === 1 || (offset % blockSize === 0 && length % blockSize === 0)) return;
    throw new VhdkitError('INVALID_ARGUMENT', `${label}: the request is not made of blocks of ${blockSize}`, {
      operation: 'access device',
      context: { path: label, offset, length },
      hint: `Ask for multiples of ${blockSize} bytes.`,
    });
  }
}
