/**
 * A write-once device as a block device, so that an NBD server can offer it to several hosts.
 *
 * Invariants: a write covers whole chunks and is the one write of each of them, durable when it is answered; one
 * that finds any of them written changes nothing (ALREADY_WRITTEN). A read that touches an unwritten chunk fails
 * (UNWRITTEN) and tells no byte. Written chunks are data, unwritten ones holes that do not read as zeros.
 *
 * Which primary it belongs to, and the size of its chunks, are names of meta contexts: a client that asks for
 * the ones that it expects gets them from the right device only.
 */
import { VhdkitError } from '../../base/errors.js';
import type { BlockDevice, DeviceCapabilities, DeviceExtent } from '../../block/block-device.js';
import type { ChunkPlace, ChunkWrite, WriteOnceDevice } from '../../block/write-once-device.js';
import type { MetaContext } from '../../nbd/export-table.js';
import { diskIdOf } from './primary-id.js';
import { chunkLength } from './shape.js';

/** Chunks that one answer about extents tells of. */
const CHUNKS_AT_A_TIME = 1024;
/** The flag of our contexts. */
const WRITTEN = 1;
const ZEROS_AT_A_TIME = 16 * 1024 * 1024;

export function primaryContext(primaryId: string): string {
  return `vhdkit:primary-${diskIdOf(primaryId)}`;
}

export function chunksContext(chunkSize: number): string {
  return `vhdkit:chunks-${chunkSize}`;
}

export class WriteOnceExport implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize = 1;
  readonly preferredSize: number;
  readonly capabilities: DeviceCapabilities;
  readonly #device: WriteOnceDevice;

  /** Owns the device. */
  constructor(device: WriteOnceDevice, { writable = true }: { writable?: boolean } = {}) {
    this.label = device.label;
    this.size = device.size;
    this.preferredSize = device.chunkSize;
    this.#device = device;
    this.capabilities = {
      writable,
      trim: false,
      zero: false,
      fastZero: false,
      extents: true,
      // Whatever was answered is durable, and seen by everybody.
      multiConn: true,
    };
  }

  /** For the export's entry: what the device is for, and which of its chunks are written (flag 1). */
  contexts(): MetaContext[] {
    const extents = async (offset: number, length: number) =>
      (await this.extents(offset, length)).map(({ length: bytes, hole }) => ({
        length: bytes,
        flags: hole ? 0 : WRITTEN,
      }));
    const { primaryId, chunkSize } = this.#device;
    return [primaryContext(primaryId), chunksContext(chunkSize)].map((name) => ({ name, extents }));
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const places: { place: ChunkPlace; skip: number; from: number; to: number }[] = [];
    for (const { chunk, from, to } of this.#parts(offset, buffer.length)) {
      const place = await this.#device.locate(chunk);
      if (!place) throw this.#refuse('UNWRITTEN', 'a chunk that nobody has written', chunk);
      places.push({
        place,
        skip: from - chunk * this.#device.chunkSize,
        from: from - offset,
        to: to - offset,
      });
    }
    for (const { place, skip, from, to } of places) {
      const part = buffer.subarray(from, to);
      const count = await place.file.read(part, place.fileOffset + skip);
      if (count < part.length)
        throw new VhdkitError('IO_FAILED', `${this.label} ends within a chunk`, {
          operation: 'read',
          context: { path: this.label, offset: offset + from },
        });
    }
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    const parts = [...this.#parts(offset, bytes.length)];
    for (const { chunk, from, to } of parts) {
      if (to - from === chunkLength(this.#device, chunk)) continue;
      throw this.#refuse('INVALID_ARGUMENT', 'only whole chunks can be written', chunk);
    }
    const writes: ChunkWrite[] = [];
    try {
      // In ascending order, so that two requests never wait for each other.
      for (const { chunk, from, to } of parts) {
        const write = await this.#device.begin(chunk);
        if (write === 'written') throw this.#refuse('ALREADY_WRITTEN', 'the chunk has been written', chunk);
        writes.push(write);
        await write.place.file.write(bytes.subarray(from - offset, to - offset), write.place.fileOffset);
      }
    } catch (error) {
      for (const write of writes) await write.abandon();
      throw error;
    }
    const lost = (await this.#device.sealAll(writes)).indexOf('lost');
    if (lost >= 0) throw this.#refuse('ALREADY_WRITTEN', 'somebody else was first', parts[lost]?.chunk ?? 0);
  }

  /** A write like any other. */
  async zero(offset: number, length: number): Promise<void> {
    const most = Math.max(ZEROS_AT_A_TIME, this.#device.chunkSize);
    for (let at = offset; at < offset + length; at += most)
      await this.write(new Uint8Array(Math.min(most, offset + length - at)), at);
  }

  /** What was written stays. */
  async trim(offset: number): Promise<void> {
    const chunk = Math.floor(offset / this.#device.chunkSize);
    throw this.#refuse('UNSUPPORTED', 'nothing can be taken back', chunk);
  }

  /** Everything that was answered is durable. */
  async flush(): Promise<void> {}

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    const extents: DeviceExtent[] = [];
    let count = 0;
    for (const { chunk, from, to } of this.#parts(offset, length)) {
      if (count === CHUNKS_AT_A_TIME) break;
      count += 1;
      const hole = !(await this.#device.isWritten(chunk));
      const last = extents.at(-1);
      if (last && last.hole === hole) last.length += to - from;
      else extents.push({ offset: from, length: to - from, hole, zero: false });
    }
    return extents;
  }

  close(): Promise<void> {
    return this.#device.close();
  }

  /** The range chunk by chunk. */
  *#parts(offset: number, length: number): Generator<{ chunk: number; from: number; to: number }> {
    const { chunkSize } = this.#device;
    for (let at = offset; at < offset + length; ) {
      const chunk = Math.floor(at / chunkSize);
      const to = Math.min((chunk + 1) * chunkSize, offset + length);
      yield { chunk, from: at, to };
      at = to;
    }
  }

  #refuse(
    code: 'UNWRITTEN' | 'ALREADY_WRITTEN' | 'INVALID_ARGUMENT' | 'UNSUPPORTED',
    why: string,
    chunk: number,
  ): VhdkitError {
    const offset = chunk * this.#device.chunkSize;
    return new VhdkitError(code, `${this.label}: ${why}, at ${offset}`, {
      operation: 'use write-once device',
      context: { path: this.label, offset },
    });
  }
}
