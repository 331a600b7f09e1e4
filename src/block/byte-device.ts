/**
 * Byte addressing over a device of larger blocks: NBD clients may ask for any byte.
 *
 * Invariants: requests of whole blocks pass through as they are. Others read the blocks at their ends, put the
 * bytes in and write them back, while nobody else changes these blocks: a write that was answered is never
 * undone by the old bytes around another one.
 */
import { roundDown, roundUp } from '../base/bytes.js';
import { RangeLock } from '../base/range-lock.js';
import type {
  BlockDevice,
  DeviceCapabilities,
  DeviceExtent,
  DeviceWriteOptions,
  DeviceZeroOptions,
} from './block-device.js';
import { splitRequest } from './split-request.js';

export class ByteDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize = 1;
  readonly preferredSize: number;
  readonly capabilities: DeviceCapabilities;
  readonly readNow?: (buffer: Uint8Array, offset: number) => boolean;
  readonly writeNow?: (bytes: Uint8Array, offset: number) => boolean;
  readonly #device: BlockDevice;
  readonly #block: number;
  /** Changes under way: of whole blocks shared, of parts exclusive. */
  readonly #changes = new RangeLock();

  constructor(device: BlockDevice) {
    this.#device = device;
    this.#block = device.blockSize;
    this.label = device.label;
    this.size = device.size;
    this.preferredSize = Math.max(device.preferredSize, device.blockSize);
    this.capabilities = device.capabilities;
    const { readNow, writeNow } = device;
    if (readNow) {
      this.readNow = (buffer, offset) =>
        this.#isWhole(offset, buffer.length) && readNow.call(device, buffer, offset);
    }
    if (writeNow) {
      this.writeNow = (bytes, offset) =>
        this.#isWhole(offset, bytes.length) &&
        this.#changes.isFree(offset, bytes.length, 'shared') &&
        writeNow.call(device, bytes, offset);
    }
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    if (this.#isWhole(offset, buffer.length)) return this.#device.read(buffer, offset);
    const { start, length } = this.#around(offset, buffer.length);
    const blocks = new Uint8Array(length);
    await this.#device.read(blocks, start);
    buffer.set(blocks.subarray(offset - start, offset - start + buffer.length));
  }

  async write(bytes: Uint8Array, offset: number, options?: DeviceWriteOptions): Promise<void> {
    const { start, length } = this.#around(offset, bytes.length);
    if (length === bytes.length) {
      await this.#changes.hold(start, length, 'shared', () => this.#device.write(bytes, offset, options));
      return;
    }
    await this.#changes.hold(start, length, 'exclusive', async () => {
      const blocks = new Uint8Array(length);
      const head = blocks.subarray(0, this.#block);
      await this.#device.read(head, start);
      if (length > this.#block)
        await this.#device.read(blocks.subarray(length - this.#block), start + length - this.#block);
      blocks.set(bytes, offset - start);
      await this.#device.write(blocks, start, options);
    });
  }

  async zero(offset: number, length: number, options: DeviceZeroOptions = {}): Promise<void> {
    const { head, body, tail } = splitRequest(offset, length, this.#block);
    if (body > 0) {
      const start = offset + head;
      await this.#changes.hold(start, body, 'shared', () => this.#device.zero(start, body, options));
    }
    const durable = options.durable === undefined ? {} : { durable: options.durable };
    if (head > 0) await this.write(new Uint8Array(head), offset, durable);
    if (tail > 0) await this.write(new Uint8Array(tail), offset + length - tail, durable);
  }

  /** Parts of blocks stay as they are. */
  async trim(offset: number, length: number, options?: DeviceWriteOptions): Promise<void> {
    const { head, body } = splitRequest(offset, length, this.#block);
    if (body === 0) return;
    const start = offset + head;
    await this.#changes.hold(start, body, 'shared', () => this.#device.trim(start, body, options));
  }

  flush(): Promise<void> {
    return this.#device.flush();
  }

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    const { start, length: whole } = this.#around(offset, length);
    const found: DeviceExtent[] = [];
    for (const extent of await this.#device.extents(start, whole)) {
      const from = Math.max(extent.offset, offset);
      const to = Math.min(extent.offset + extent.length, offset + length);
      if (to > from) found.push({ ...extent, offset: from, length: to - from });
    }
    return found;
  }

  close(): Promise<void> {
    return this.#device.close();
  }

  #isWhole(offset: number, length: number): boolean {
    return offset % this.#block === 0 && length % this.#block === 0;
  }

  #around(offset: number, length: number): { start: number; length: number } {
    const start = roundDown(offset, this.#block);
    return { start, length: roundUp(offset + length, this.#block) - start };
  }
}

/** The device itself where any byte can be addressed; else with an adapter in front. */
export function byteAddressed(device: BlockDevice): BlockDevice {
  return device.blockSize === 1 ? device : new ByteDevice(device);
}
