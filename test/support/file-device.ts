/**
 * The plainest block device: a file, each request as it comes. `pause` is awaited between sectors, so that
 * tests can have requests run into each other.
 */
import type { BlockDevice, DeviceExtent } from '../../src/block/block-device.js';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';

const SECTOR = 512;

export class FileDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize = SECTOR;
  readonly preferredSize = 4096;
  readonly capabilities = {
    writable: true,
    trim: true,
    zero: true,
    fastZero: true,
    extents: true,
    multiConn: true,
  };
  readonly file: RandomAccessFile;
  readonly #pause: (() => Promise<void>) | undefined;

  constructor(file: RandomAccessFile, size: number, pause?: () => Promise<void>) {
    this.label = file.path;
    this.file = file;
    this.size = size;
    this.#pause = pause;
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    await this.#bySectors(buffer, offset, async (part, at) => {
      part.fill(0, await this.file.read(part, at));
    });
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    await this.#bySectors(bytes, offset, (part, at) => this.file.write(part, at));
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.#pause?.();
    await this.file.zero(offset, length);
  }

  async trim(offset: number, length: number): Promise<void> {
    await this.#pause?.();
    await this.file.zero(offset, length);
  }

  async flush(): Promise<void> {
    await this.#pause?.();
    await this.file.flush();
  }

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    const data = this.file.nextData(offset, offset + length);
    if (!data) return [{ offset, length, hole: true, zero: true }];
    if (data.offset > offset) return [{ offset, length: data.offset - offset, hole: true, zero: true }];
    return [{ ...data, hole: false, zero: false }];
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  async #bySectors(
    bytes: Uint8Array,
    offset: number,
    work: (part: Uint8Array, at: number) => Promise<void>,
  ): Promise<void> {
    if (!this.#pause) return work(bytes, offset);
    for (let at = 0; at < bytes.length; at += SECTOR) {
      await this.#pause();
      await work(bytes.subarray(at, at + SECTOR), offset + at);
    }
  }
}
