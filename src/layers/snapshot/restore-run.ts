/**
 * A restore under way: the disk shows a snapshot again from the moment it begins, while its chunks are put back
 * one after the other.
 *
 * A chunk is *settled* once the disk's own place for it is right again. Until then it is read through the
 * snapshot, and whoever writes to it settles it first. What newer snapshots need of it is kept before, like
 * before any other write. Writes that had begun before the restore did come before it.
 *
 * Invariants: a chunk's content is durable before it is recorded as settled, and that is durable before it is
 * written to: after a crash at any instant the restore goes on, and loses no later write. Chunks are copied by
 * offload; putting one back twice is harmless as long as it is not settled.
 */
import { MiB } from '../../base/bytes.js';
import { throwIfAborted } from '../../base/errors.js';
import type { ByteRange, RandomAccessFile } from '../../io/random-access-file.js';
import type { CopyAndWriter } from '../../offload/copy-and-write.js';
import { runLimited } from '../../offload/run-limited.js';
import type { Catalogue, Epoch, Geometry, SnapshotLayer } from './catalogue.js';
import type { ChunkReader } from './chunk-reader.js';
import type { Keeper } from './keeper.js';

/** Remembers settled chunks across crashes. */
export interface SettledChunks {
  has(chunk: number): boolean;
  /** Durable when it returns. @throws NO_SPACE, IO_FAILED */
  add(chunks: readonly number[]): Promise<void>;
}

export interface RestoreParts {
  /** The snapshot that the disk goes back to. */
  source: SnapshotLayer;
  /** Begun with the restore. */
  epoch: Epoch;
  catalogue: Catalogue;
  reader: ChunkReader;
  keeper: Keeper;
  copier: CopyAndWriter;
  file: RandomAccessFile;
  geometry: Geometry;
  settled: SettledChunks;
}

export interface SweepOptions {
  signal?: AbortSignal;
  /** Bytes put back so far. */
  onProgress?: (bytes: number) => void;
}

/** Chunks that are put back with one flush. */
const BATCH = 256;
/** Bytes and chunks that are put back at the same time: those that are kept for newer snapshots share flushes. */
const BYTES_IN_FLIGHT = 8 * MiB;
const LEAST_IN_FLIGHT = 8;

export class RestoreRun {
  readonly source: SnapshotLayer;
  readonly #parts: RestoreParts;
  readonly #settling = new Map<number, Promise<void>>();
  /** Bytes that were put back. */
  restored = 0;

  constructor(parts: RestoreParts) {
    this.#parts = parts;
    this.source = parts.source;
  }

  isSettled(chunk: number): boolean {
    return this.#parts.settled.has(chunk);
  }

  /** Puts back every chunk that the range touches. @throws what keeping, copying and recording throw */
  async settleRange(offset: number, length: number): Promise<void> {
    const { first, last } = this.#parts.keeper.chunksOf(offset, length);
    for (let start = first; start <= last; start += BATCH) {
      const chunks: number[] = [];
      for (let chunk = start; chunk <= Math.min(last, start + BATCH - 1); chunk += 1) chunks.push(chunk);
      await this.#settle(chunks);
    }
  }

  /** Runs of whether the disk, as it is to be, was changed since a snapshot. */
  async changes(
    layers: readonly SnapshotLayer[],
    since: SnapshotLayer,
    { offset, length }: ByteRange,
  ): Promise<{ length: number; changed: boolean }[]> {
    const { geometry, reader } = this.#parts;
    const { chunkSize } = geometry;
    const runs: { length: number; changed: boolean }[] = [];
    for (let at = offset; at < offset + length; ) {
      const chunk = Math.floor(at / chunkSize);
      const next = Math.min(offset + length, (chunk + 1) * chunkSize);
      // Looked at first: when a chunk is settled, the snapshots that it is a change for have it.
      const isSettled = this.isSettled(chunk);
      const kept = await reader.find(layers, since, chunk);
      const shown = isSettled ? undefined : await reader.find(layers, this.source, chunk);
      const changed = kept?.file !== shown?.file || kept?.fileOffset !== shown?.fileOffset;
      const last = runs.at(-1);
      if (last?.changed === changed) last.length += next - at;
      else runs.push({ length: next - at, changed });
      at = next;
    }
    return runs;
  }

  /** Reads the disk as it is to be. */
  async read(
    buffer: Uint8Array,
    offset: number,
    primary: (part: Uint8Array, at: number) => Promise<void>,
  ): Promise<void> {
    const { geometry, reader } = this.#parts;
    const { chunkSize } = geometry;
    for (let at = 0; at < buffer.length; ) {
      const chunk = Math.floor((offset + at) / chunkSize);
      const end = Math.min(buffer.length, (chunk + 1) * chunkSize - offset);
      const part = buffer.subarray(at, end);
      if (this.isSettled(chunk)) await primary(part, offset + at);
      else await reader.read(this.source, part, offset + at);
      at = end;
    }
  }

  /** Puts everything back. Durable when it returns. @throws CANCELLED, NO_SPACE, IO_FAILED, IMAGE_CORRUPT */
  async sweep(options: SweepOptions = {}): Promise<void> {
    const { catalogue, epoch, file, geometry } = this.#parts;
    // Writes from before may still add to the newest layer; only we wait for them.
    await catalogue.earlierWrites(epoch, 0, geometry.size);
    await catalogue.reading(async (layers) => {
      for (const layer of layers.slice(layers.indexOf(this.source))) await this.#sweepLayer(layer, options);
    });
    await file.flush();
  }

  async #sweepLayer({ device }: SnapshotLayer, { signal, onProgress }: SweepOptions): Promise<void> {
    let batch: number[] = [];
    const put = async (): Promise<void> => {
      throwIfAborted(
        signal,
        'restore snapshot',
        'The disk is half-way back: run the command again to finish.',
      );
      await this.#settle(batch);
      batch = [];
      onProgress?.(this.restored);
    };
    for await (const chunk of device.written()) {
      if (this.isSettled(chunk)) continue;
      batch.push(chunk);
      if (batch.length === BATCH) await put();
    }
    if (batch.length > 0) await put();
  }

  async #settle(chunks: readonly number[]): Promise<void> {
    const waits: Promise<void>[] = [];
    const mine: number[] = [];
    for (const chunk of chunks) {
      if (this.isSettled(chunk)) continue;
      const underWay = this.#settling.get(chunk);
      if (underWay) waits.push(underWay);
      else mine.push(chunk);
    }
    if (mine.length > 0) waits.push(this.#settleMine(mine));
    await Promise.all(waits);
  }

  async #settleMine(chunks: readonly number[]): Promise<void> {
    const work = this.#putBack(chunks);
    for (const chunk of chunks) this.#settling.set(chunk, work);
    try {
      await work;
    } finally {
      for (const chunk of chunks) this.#settling.delete(chunk);
    }
  }

  async #putBack(chunks: readonly number[]): Promise<void> {
    const { file, settled } = this.#parts;
    let copied = 0;
    const atOnce = Math.max(LEAST_IN_FLIGHT, Math.floor(BYTES_IN_FLIGHT / this.#parts.geometry.chunkSize));
    await runLimited(chunks, atOnce, async (chunk) => {
      const bytes = await this.#putBackChunk(chunk);
      copied += bytes;
    });
    if (copied > 0) await file.flush();
    await settled.add(chunks);
    this.restored += copied;
  }

  /** Answers the bytes that were copied. */
  async #putBackChunk(chunk: number): Promise<number> {
    const { catalogue, copier, epoch, file, geometry, keeper, reader } = this.#parts;
    const { chunkSize, size } = geometry;
    const start = chunk * chunkSize;
    const length = Math.min(chunkSize, size - start);
    await catalogue.earlierWrites(epoch, start, start + length);
    return catalogue.reading(async (layers) => {
      const place = await reader.find(layers, this.source, chunk);
      if (!place) return 0;
      await keeper.keep(epoch, chunk);
      await copier.copy(place, { file, fileOffset: start }, length);
      return length;
    });
  }
}
