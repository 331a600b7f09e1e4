/**
 * A write-once device of another host, over NBD (what offers it: export.ts).
 *
 * Invariants: the export is used only when it says that it is of the primary and the chunk size expected. A chunk is
 * gathered in memory and sent whole when it is sealed; the server takes the first of several. What is once seen
 * written is not asked again.
 */
import { roundUp } from '../../base/bytes.js';
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import type { BlockDevice } from '../../block/block-device.js';
import type { ChunkPlace, ChunkWrite, WriteOnceDevice } from '../../block/write-once-device.js';
import { MemoryFile } from '../../io/memory-file.js';
import type { ByteRange, RandomAccessFile } from '../../io/random-access-file.js';
import { assertChunk, sealEach } from './device-parts.js';
import { chunksContext, primaryContext } from './export.js';
import { assertShape, chunkLength, mismatch, notEmpty, type WriteOnceShape } from './shape.js';

/** Chunks remembered as written. */
const KNOWN = 64 * 1024;
/** Bytes asked about in one go while all chunks are listed. */
const LISTED_AT_A_TIME = 1024 ** 3;

/** What is needed of the client, a device that also tells what was agreed upon. */
export interface RemoteBlockDevice extends BlockDevice {
  readonly remote: { readonly contexts: ReadonlyMap<string, number>; readonly payload: number };
}

/** Meta contexts to ask for when the export is opened, besides `base:allocation`. */
export function remoteContexts(shape: { primaryId: string; chunkSize: number }): string[] {
  return [primaryContext(shape.primaryId), chunksContext(shape.chunkSize)];
}

/** The chunks that lie on the server, as a file for reading. */
class RemoteFile implements RandomAccessFile {
  readonly kind = 'memory';
  readonly writable = false;
  readonly fd = undefined;
  readonly path: string;
  readonly #device: BlockDevice;

  constructor(device: BlockDevice) {
    this.path = device.label;
    this.#device = device;
  }

  size(): number {
    return this.#device.size;
  }

  async read(buffer: Uint8Array, offset: number): Promise<number> {
    const part = buffer.subarray(0, Math.max(0, Math.min(buffer.length, this.size() - offset)));
    await this.#device.read(part, offset);
    return part.length;
  }

  nextData(offset: number, end: number): ByteRange | undefined {
    return offset < end ? { offset, length: end - offset } : undefined;
  }

  async write(): Promise<void> {
    throw this.#readOnly();
  }

  async zero(): Promise<void> {
    throw this.#readOnly();
  }

  async truncate(): Promise<void> {
    throw this.#readOnly();
  }

  async flush(): Promise<void> {}

  async allocatedBytes(): Promise<number> {
    return 0;
  }

  fingerprint(): undefined {
    return undefined;
  }

  /** The device closes the connection. */
  async close(): Promise<void> {}

  #readOnly(): VhdkitError {
    return new VhdkitError('READ_ONLY', `${this.path}: chunks are written once, through the device`, {
      context: { path: this.path },
    });
  }
}

export class RemoteWriteOnceDevice implements WriteOnceDevice {
  readonly kind = 'remote';
  readonly label: string;
  readonly size: number;
  readonly chunkSize: number;
  readonly primaryId: string;
  readonly #device: RemoteBlockDevice;
  readonly #file: RemoteFile;
  readonly #known = new Set<number>();

  private constructor(device: RemoteBlockDevice, { chunkSize, primaryId }: WriteOnceShape) {
    this.label = device.label;
    this.size = device.size;
    this.chunkSize = chunkSize;
    this.primaryId = primaryId;
    this.#device = device;
    this.#file = new RemoteFile(device);
  }

  /**
   * Takes over a device that was opened with `remoteContexts`; on failure it stays open.
   * @throws WRITE_ONCE_MISMATCH, UNSUPPORTED (the server takes no whole chunks, or tells no extents)
   */
  static async of(
    device: RemoteBlockDevice,
    shape: WriteOnceShape,
    { empty = false } = {},
  ): Promise<RemoteWriteOnceDevice> {
    assertShape(device.label, shape);
    const { label } = device;
    const { contexts, payload } = device.remote;
    if (!contexts.has(primaryContext(shape.primaryId)))
      throw mismatch(label, 'primary', `is no write-once device of ${shape.primaryId}`);
    if (device.size !== shape.size)
      throw mismatch(label, 'size', `has ${device.size} bytes, the primary ${shape.size}`);
    if (!contexts.has(chunksContext(shape.chunkSize)))
      throw mismatch(label, 'chunk-size', `has no chunks of ${shape.chunkSize} bytes`);
    if (payload < shape.chunkSize || !device.capabilities.extents) {
      throw new VhdkitError('UNSUPPORTED', `${label} takes no chunks of ${shape.chunkSize} bytes at once`, {
        operation: 'open write-once device',
        context: { path: label, length: payload },
        hint: 'Choose smaller chunks, or a server that takes larger requests.',
      });
    }
    const remote = new RemoteWriteOnceDevice(device, shape);
    if (empty) for await (const _ of remote.written()) throw notEmpty(label);
    return remote;
  }

  async isWritten(chunk: number): Promise<boolean> {
    assertChunk(this, chunk);
    if (this.#known.has(chunk)) return true;
    const [extent] = await this.#device.extents(chunk * this.chunkSize, chunkLength(this, chunk));
    const written = extent?.hole === false;
    if (written) this.#remember(chunk);
    return written;
  }

  async locate(chunk: number): Promise<ChunkPlace | undefined> {
    if (!(await this.isWritten(chunk))) return undefined;
    return { file: this.#file, fileOffset: chunk * this.chunkSize, length: chunkLength(this, chunk) };
  }

  async begin(chunk: number): Promise<ChunkWrite | 'written'> {
    if (!this.#device.capabilities.writable)
      throw new VhdkitError('READ_ONLY', `${this.label} is for reading only`, {
        operation: 'write chunk',
        context: { path: this.label },
      });
    if (await this.isWritten(chunk)) return 'written';
    const file = new MemoryFile(new Uint8Array(0), `${this.label}, chunk ${chunk}`);
    const length = chunkLength(this, chunk);
    await file.truncate(length);
    return {
      place: { file, fileOffset: 0, length },
      seal: async () => {
        const end = await this.#send(chunk, file.bytes());
        await file.close();
        return end;
      },
      abandon: () => file.close(),
    };
  }

  sealAll(writes: readonly ChunkWrite[]): Promise<('written' | 'lost')[]> {
    return sealEach(writes);
  }

  async *written(): AsyncGenerator<number> {
    for await (const { offset, length } of this.#stored())
      for (let at = offset; at < offset + length; at += this.chunkSize) yield at / this.chunkSize;
  }

  /** What the chunks have; what they take is the server's. */
  async allocatedBytes(): Promise<number> {
    let bytes = 0;
    for await (const { length } of this.#stored()) bytes += length;
    return bytes;
  }

  close(): Promise<void> {
    return this.#device.close();
  }

  async *#stored(): AsyncGenerator<ByteRange> {
    for (let at = 0; at < this.size; ) {
      const asked = Math.min(this.size - at, roundUp(LISTED_AT_A_TIME, this.chunkSize));
      for (const { offset, length, hole } of await this.#device.extents(at, asked)) {
        if (!hole) yield { offset, length };
        at = offset + length;
      }
    }
  }

  async #send(chunk: number, bytes: Uint8Array): Promise<'written' | 'lost'> {
    try {
      await this.#device.write(bytes, chunk * this.chunkSize, { durable: true });
    } catch (error) {
      if (!isVhdkitError(error)) throw error;
      // A server without structured replies refuses with a number that may mean other things.
      const refused =
        error.code === 'ALREADY_WRITTEN' || (error.code === 'READ_ONLY' && (await this.isWritten(chunk)));
      if (!refused) throw error;
      this.#remember(chunk);
      return 'lost';
    }
    this.#remember(chunk);
    return 'written';
  }

  #remember(chunk: number): void {
    this.#known.add(chunk);
    const [oldest] = this.#known;
    if (this.#known.size > KNOWN && oldest !== undefined) this.#known.delete(oldest);
  }
}
