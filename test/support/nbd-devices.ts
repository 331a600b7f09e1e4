/** Devices that try a server's patience: late ones, failing ones, and one that waits for a test to go on. */
import { VhdkitError } from '../../src/base/errors.js';
import type {
  BlockDevice,
  DeviceCapabilities,
  DeviceExtent,
  DeviceWriteOptions,
  DeviceZeroOptions,
} from '../../src/block/block-device.js';

/** Passes everything on, a turn of the event loop later, and does nothing at once. */
export class SlowDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize: number;
  readonly preferredSize: number;
  readonly capabilities: DeviceCapabilities;
  readonly inner: BlockDevice;

  constructor(inner: BlockDevice, capabilities: Partial<DeviceCapabilities> = {}) {
    this.inner = inner;
    this.label = inner.label;
    this.size = inner.size;
    this.blockSize = inner.blockSize;
    this.preferredSize = inner.preferredSize;
    this.capabilities = { ...inner.capabilities, ...capabilities };
  }

  /** What every request waits for. */
  pause(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    await this.pause();
    return this.inner.read(buffer, offset);
  }

  async write(bytes: Uint8Array, offset: number, options?: DeviceWriteOptions): Promise<void> {
    await this.pause();
    return this.inner.write(bytes, offset, options);
  }

  async zero(offset: number, length: number, options?: DeviceZeroOptions): Promise<void> {
    await this.pause();
    return this.inner.zero(offset, length, options);
  }

  async trim(offset: number, length: number, options?: DeviceWriteOptions): Promise<void> {
    await this.pause();
    return this.inner.trim(offset, length, options);
  }

  async flush(): Promise<void> {
    await this.pause();
    return this.inner.flush();
  }

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    await this.pause();
    return this.inner.extents(offset, length);
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}

/** Waits in every request until `open` is called. */
export class GatedDevice extends SlowDevice {
  /** Requests that wait. */
  waiting = 0;
  #open: (() => void) | undefined;
  #gate = new Promise<void>((resolve) => {
    this.#open = resolve;
  });

  override async pause(): Promise<void> {
    this.waiting += 1;
    await this.#gate;
    this.waiting -= 1;
  }

  open(): void {
    this.#open?.();
  }
}

/** Fails where a test says so: `failure` is asked before every request, with the end of its range. */
export class FailingDevice extends SlowDevice {
  failure: (what: 'read' | 'write' | 'zero' | 'flush', end: number) => VhdkitError | undefined = () =>
    undefined;

  override async read(buffer: Uint8Array, offset: number): Promise<void> {
    this.#ask('read', offset + buffer.length);
    return super.read(buffer, offset);
  }

  override async write(bytes: Uint8Array, offset: number, options?: DeviceWriteOptions): Promise<void> {
    this.#ask('write', offset + bytes.length);
    return super.write(bytes, offset, options);
  }

  override async zero(offset: number, length: number, options?: DeviceZeroOptions): Promise<void> {
    this.#ask('zero', offset + length);
    return super.zero(offset, length, options);
  }

  override async flush(): Promise<void> {
    this.#ask('flush', 0);
    return super.flush();
  }

  #ask(what: 'read' | 'write' | 'zero' | 'flush', end: number): void {
    const error = this.failure(what, end);
    if (error) throw error;
  }
}

export function failing(code: VhdkitError['code']): VhdkitError {
  return new VhdkitError(code, 'told to fail, in a file with a secret name');
}
