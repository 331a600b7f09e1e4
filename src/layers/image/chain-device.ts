/**
 * A chain of images, open for reading, as a device.
 *
 * Invariant: nobody changes the images while they are open here, so nothing needs to be held.
 */
import { KiB } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { BlockDevice, DeviceCapabilities, DeviceExtent } from '../../block/block-device.js';
import { ReadOnlyDevice } from '../../block/read-only-device.js';
import type { Chain } from '../../formats/chain.js';
import { ChainReader } from './chain-reader.js';

export class ChainDevice extends ReadOnlyDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize = 1;
  readonly preferredSize = 4 * KiB;
  readonly capabilities: DeviceCapabilities = {
    writable: false,
    trim: false,
    zero: false,
    fastZero: false,
    extents: true,
    multiConn: true,
  };
  readonly #chain: Chain;
  readonly #reader: ChainReader;

  /** The chain belongs to the device from now on: `close` closes it. */
  constructor(chain: Chain, label: string = chain.top.file.path) {
    super();
    this.#chain = chain;
    this.label = label;
    this.size = chain.virtualSize;
    this.#reader = new ChainReader(chain, (_offset, _length, work) => work());
  }

  read(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#reader.read(buffer, offset);
  }

  readNow(buffer: Uint8Array, offset: number): boolean {
    return this.#reader.readNow(buffer, offset);
  }

  extents(offset: number, length: number): Promise<DeviceExtent[]> {
    return this.#reader.extents(offset, length);
  }

  close(): Promise<void> {
    return this.#chain.close();
  }

  protected refusal(): VhdkitError {
    const { label } = this;
    return new VhdkitError('READ_ONLY', `${label} is open for reading only`, {
      operation: 'write',
      context: { path: label },
    });
  }
}
