/**
 * A write-once device that is a dynamic VHD or VHDX: a chunk is a block, and what says which blocks there are (table
 * and bitmaps) says which chunks have been written. Any program that reads the format shows the chunks, and
 * zeros for the rest.
 *
 * Invariants: a block that the image has committed counts as written only after the image's flush. One process has
 * the image at a time, readers included, because its tables are kept in memory: others share the device over
 * NBD. After a flush that failed the block's data stays where it is, and whoever wants the chunk next flushes again.
 */
import { VhdkitError } from '../../../base/errors.js';
import { GroupCommit } from '../../../base/group-commit.js';
import type { Extent, PreparedWrite } from '../../../block/extent.js';
import type { ChunkPlace, ChunkWrite, WriteOnceDevice } from '../../../block/write-once-device.js';
import type { DiskImage } from '../../../formats/disk-image.js';
import type { EditableImage } from '../../../formats/editable-image.js';
import { type Claims, localClaims, type Release } from '../../../io/claims.js';
import type { HeldLock } from '../../../io/file-system.js';
import { assertChunk, sealEach } from '../device-parts.js';
import { chunkLength, type WriteOnceShape, writeOnceCorrupt } from '../shape.js';

/** Chunks looked at in one go while all are listed. */
const CHUNKS_AT_A_TIME = 4096;

export class ImageWriteOnceDevice implements WriteOnceDevice {
  readonly kind: 'vhd' | 'vhdx';
  readonly label: string;
  readonly size: number;
  readonly chunkSize: number;
  readonly primaryId: string;
  readonly #image: DiskImage;
  readonly #editable: EditableImage | undefined;
  readonly #claims: Claims;
  /** Flushes that many ask for at the same time are one. */
  readonly #flushes: GroupCommit<void>;
  /** Chunks whose block is committed and not flushed. */
  readonly #unsure = new Set<number>();
  /** Writes that are neither sealed nor abandoned. */
  readonly #open = new Set<ChunkWrite>();

  /** The device owns image and lock. Without `editable` (the same image) for reading only. */
  constructor(
    image: DiskImage,
    editable: EditableImage | undefined,
    shape: WriteOnceShape & { kind: 'vhd' | 'vhdx' },
    lock: HeldLock,
  ) {
    this.kind = shape.kind;
    this.label = image.file.path;
    this.size = shape.size;
    this.chunkSize = shape.chunkSize;
    this.primaryId = shape.primaryId;
    this.#image = image;
    this.#editable = editable;
    this.#claims = localClaims(this.label, lock);
    this.#flushes = new GroupCommit(() => image.flush());
  }

  async isWritten(chunk: number): Promise<boolean> {
    return (await this.locate(chunk)) !== undefined;
  }

  async locate(chunk: number): Promise<ChunkPlace | undefined> {
    assertChunk(this, chunk);
    if (this.#unsure.has(chunk)) return undefined;
    const offset = chunk * this.chunkSize;
    const length = chunkLength(this, chunk);
    const extents = await this.#image.locate(offset, length);
    const data = extents.find((extent) => extent.state === 'data');
    if (!data) return undefined;
    // It may have been committed while we looked.
    if (this.#unsure.has(chunk)) return undefined;
    if (extents.length > 1) throw this.#inPart(chunk);
    return { file: data.file, fileOffset: data.fileOffset, length };
  }

  async begin(chunk: number): Promise<ChunkWrite | 'written'> {
    const image = this.#editable;
    if (!image)
      throw new VhdkitError('READ_ONLY', `${this.label} is open for reading only`, {
        operation: 'write chunk',
        context: { path: this.label },
      });
    if (await this.isWritten(chunk)) return 'written';
    const release = await this.#claims.take(chunk);
    try {
      // What an earlier writer could not flush is whole; it has only to become durable.
      if (this.#unsure.has(chunk)) await this.#settle([chunk]);
      if (await this.isWritten(chunk)) {
        release();
        return 'written';
      }
      const offset = chunk * this.chunkSize;
      return this.#write(chunk, await image.prepareWrite(offset, chunkLength(this, chunk)), release);
    } catch (error) {
      release();
      throw error;
    }
  }

  sealAll(writes: readonly ChunkWrite[]): Promise<('written' | 'lost')[]> {
    return sealEach(writes);
  }

  async *written(): AsyncGenerator<number> {
    const step = this.chunkSize * CHUNKS_AT_A_TIME;
    for (let at = 0; at < this.size; at += step) {
      const extents = await this.#image.locate(at, Math.min(step, this.size - at));
      for (const [chunk, bytes] of this.#bytesOfChunks(extents)) {
        if (this.#unsure.has(chunk)) continue;
        if (bytes !== chunkLength(this, chunk)) throw this.#inPart(chunk);
        yield chunk;
      }
    }
  }

  allocatedBytes(): Promise<number> {
    return this.#image.file.allocatedBytes();
  }

  async close(): Promise<void> {
    try {
      for (const write of this.#open) await write.abandon();
      // An image whose changes can't be written any more is closed without them.
      if (this.#editable) await this.#flushes.add().catch(() => undefined);
      await this.#image.close();
    } finally {
      await this.#claims.close();
    }
  }

  /** Stored bytes by chunk, in order. */
  #bytesOfChunks(extents: readonly Extent[]): Map<number, number> {
    const chunks = new Map<number, number>();
    for (const { state, offset, length } of extents) {
      if (state !== 'data') continue;
      for (let at = offset; at < offset + length; ) {
        const chunk = Math.floor(at / this.chunkSize);
        const next = Math.min((chunk + 1) * this.chunkSize, offset + length);
        chunks.set(chunk, (chunks.get(chunk) ?? 0) + next - at);
        at = next;
      }
    }
    return chunks;
  }

  async #settle(chunks: readonly number[]): Promise<void> {
    await this.#flushes.add();
    for (const chunk of chunks) this.#unsure.delete(chunk);
  }

  #write(chunk: number, prepared: PreparedWrite, release: Release): ChunkWrite {
    const [place] = prepared.places;
    if (!place || prepared.places.length > 1) throw this.#inPart(chunk);
    let open = true;
    const finish = async (act: () => Promise<void>): Promise<void> => {
      if (!open) return;
      open = false;
      this.#open.delete(write);
      try {
        await act();
      } finally {
        release();
      }
    };
    const write: ChunkWrite = {
      place: { file: place.file, fileOffset: place.fileOffset, length: place.length },
      seal: async () => {
        await finish(async () => {
          this.#unsure.add(chunk);
          await prepared.commit();
          await this.#settle([chunk]);
        });
        return 'written';
      },
      abandon: () => finish(() => prepared.abort()),
    };
    this.#open.add(write);
    return write;
  }

  #inPart(chunk: number): VhdkitError {
    return writeOnceCorrupt(
      'WRITE_ONCE_BLOCK_IN_PART',
      `block ${chunk} is there in part: this image was not written as a write-once device`,
      { path: this.label },
    );
  }
}
