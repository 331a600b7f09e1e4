/**
 * Keeps chunks for snapshots before they are overwritten.
 *
 * Order for a chunk that is not covered yet: wait for writes on it that belong to earlier epochs, copy it to
 * the active layer's device, seal it durably, and only then let the write go on. So whatever happens in
 * between, a snapshot shows the chunk from its device or from the untouched primary, and both are the same.
 *
 * Invariants: a chunk is kept once; whoever comes while it is being kept waits for that. When keeping fails,
 * either the write fails (and nothing was overwritten), or the layer is recorded as broken before anything is
 * overwritten: never is a snapshot silently wrong.
 */
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { type CopyAndWriter, CopyFailure } from '../../offload/copy-and-write.js';
import { runLimited } from '../../offload/run-limited.js';
import type { Catalogue, Epoch, Geometry, SnapshotLayer } from './catalogue.js';

/** A write into one chunk, to go with keeping it. */
export interface Overwrite {
  bytes: Uint8Array;
  /** On the disk. */
  offset: number;
  put(bytes: Uint8Array): Promise<void>;
}

export interface KeeperParts {
  file: RandomAccessFile;
  geometry: Geometry;
  catalogue: Catalogue;
  copier: CopyAndWriter;
  /** Records durably that a layer is broken. */
  recordBroken(layer: SnapshotLayer, cause: unknown): Promise<void>;
}

/** Chunks of one request that are kept at the same time. */
const CHUNKS_IN_FLIGHT = 16;
const NOTHING = new Uint8Array(0);

export class Keeper {
  readonly #parts: KeeperParts;

  constructor(parts: KeeperParts) {
    this.#parts = parts;
  }

  /** The chunks that a range touches. */
  chunksOf(offset: number, length: number): { first: number; last: number } {
    const { chunkSize } = this.#parts.geometry;
    return { first: Math.floor(offset / chunkSize), last: Math.floor((offset + length - 1) / chunkSize) };
  }

  /** True when nothing of the range needs to be kept, as far as that is known without asking. */
  isCovered(epoch: Epoch, offset: number, length: number): boolean {
    const { chunkSize } = this.#parts.geometry;
    const first = Math.floor(offset / chunkSize);
    const last = Math.floor((offset + length - 1) / chunkSize);
    return epoch.covered.hasAll(first, last) || epoch.active === undefined;
  }

  /** Keeps every chunk that the range touches. @throws see `keep` */
  async keepRange(epoch: Epoch, offset: number, length: number): Promise<void> {
    const { first, last } = this.chunksOf(offset, length);
    for (let group = first; group <= last; group += CHUNKS_IN_FLIGHT) {
      const chunks: number[] = [];
      for (let chunk = group; chunk <= Math.min(last, group + CHUNKS_IN_FLIGHT - 1); chunk += 1) {
        if (!epoch.covered.has(chunk)) chunks.push(chunk);
      }
      await runLimited(chunks, CHUNKS_IN_FLIGHT, (chunk) => this.keep(epoch, chunk));
    }
  }

  /**
   * Keeps one chunk, then carries out the write into it.
   * @throws NO_SPACE, IO_FAILED … (it can't be kept, policy `fail-writes`), and what the write throws
   */
  async keep(epoch: Epoch, chunk: number, overwrite?: Overwrite): Promise<void> {
    for (;;) {
      if (epoch.active === undefined || epoch.covered.has(chunk)) {
        await overwrite?.put(overwrite.bytes);
        return;
      }
      const underWay = epoch.copying.get(chunk);
      if (underWay === undefined) break;
      // What becomes of it is its own caller's business; afterwards we look again.
      await underWay.catch(() => undefined);
    }
    const copying = this.#parts.catalogue.reading(() => this.#keepFirst(epoch, chunk, overwrite));
    epoch.copying.set(chunk, copying);
    try {
      await copying;
    } finally {
      epoch.copying.delete(chunk);
    }
  }

  async #keepFirst(epoch: Epoch, chunk: number, overwrite: Overwrite | undefined): Promise<void> {
    const { catalogue, geometry } = this.#parts;
    const { chunkSize, size } = geometry;
    const start = chunk * chunkSize;
    const length = Math.min(chunkSize, size - start);
    await catalogue.earlierWrites(epoch, start, start + length);
    for (let layer = epoch.active; layer !== undefined; layer = epoch.active) {
      const kept = await this.#keepIn(layer, epoch, chunk, { start, length }, overwrite);
      if (kept === 'and written') return;
      if (kept === 'kept') break;
    }
    await overwrite?.put(overwrite.bytes);
  }

  async #keepIn(
    layer: SnapshotLayer,
    epoch: Epoch,
    chunk: number,
    { start, length }: { start: number; length: number },
    overwrite: Overwrite | undefined,
  ): Promise<'kept' | 'and written' | 'broken'> {
    const { copier, file } = this.#parts;
    try {
      for (const { device } of epoch.behind(layer)) {
        if (await device.isWritten(chunk)) return known(epoch, chunk);
      }
      const write = await layer.device.begin(chunk);
      if (write === 'written') return known(epoch, chunk);
      try {
        await copier.copyAndWrite({
          source: { file, fileOffset: start },
          target: write.place,
          size: length,
          buffer: overwrite?.bytes ?? NOTHING,
          bufferOffset: overwrite ? overwrite.offset - start : 0,
          preserve: async () => {
            // Many at once share flushes: devices see to that. Lost: somebody else kept it first, which is as good.
            await write.seal();
            epoch.covered.add(chunk);
          },
          ...(overwrite ? { overwrite: (bytes: Uint8Array) => overwrite.put(bytes) } : {}),
        });
        return 'and written';
      } catch (error) {
        if (error instanceof CopyFailure) await write.abandon().catch(() => undefined);
        throw error;
      }
    } catch (error) {
      // With the chunk sealed it was the write that failed.
      if (epoch.covered.has(chunk)) throw error;
      await this.#giveUp(layer, chunk, error instanceof CopyFailure ? error.cause : error);
      return 'broken';
    }
  }

  /** @throws what says that the write can't be carried out */
  async #giveUp(layer: SnapshotLayer, chunk: number, cause: unknown): Promise<void> {
    const { recordBroken } = this.#parts;
    if (layer.policy === 'fail-writes') throw this.#cannotKeep(layer, chunk, cause);
    if (layer.state !== 'intact') return;
    layer.breaking ??= recordBroken(layer, cause);
    try {
      await layer.breaking;
    } catch (error) {
      layer.breaking = undefined;
      throw this.#cannotKeep(layer, chunk, error);
    }
    if (layer.state === 'intact') layer.state = 'broken';
  }

  #cannotKeep(layer: SnapshotLayer, chunk: number, cause: unknown): VhdkitError {
    const { file, geometry } = this.#parts;
    const code = isVhdkitError(cause) ? cause.code : 'IO_FAILED';
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `Cannot write to ${file.path}: what snapshot '${layer.name}' needs could not be kept: ${reason}`;
    return new VhdkitError(code, message, {
      operation: 'keep chunk for snapshot',
      context: {
        path: file.path,
        offset: chunk * geometry.chunkSize,
        snapshot: layer.name,
        device: layer.device.label,
      },
      cause,
      hint:
        code === 'NO_SPACE'
          ? `Free some space where the snapshot lies, or delete the snapshot '${layer.name}'.`
          : `If that stays so, delete the snapshots: vhdkit snapshot delete ${file.path} --all`,
    });
  }
}

function known(epoch: Epoch, chunk: number): 'kept' {
  epoch.covered.add(chunk);
  return 'kept';
}
