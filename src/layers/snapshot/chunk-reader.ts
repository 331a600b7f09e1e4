/**
 * What a snapshot shows: the first layer from its own on that has a chunk, else the primary.
 *
 * Against a write that comes first to a chunk while we read it from the primary: a chunk is sealed before it is
 * overwritten, so after reading from the primary we look once more. Nothing there: what we read was not
 * overwritten before we had read it. Something there: we read that instead. Nobody is held up for it.
 */
import { VhdkitError } from '../../base/errors.js';
import type { BlockDevice } from '../../block/block-device.js';
import type { ChunkPlace } from '../../block/write-once-device.js';
import type { Catalogue, Geometry, SnapshotLayer } from './catalogue.js';

/** A run of chunks that lie together: in a device's file, or (no place) in the primary. */
export interface Run {
  offset: number;
  length: number;
  place: Pick<ChunkPlace, 'file' | 'fileOffset'> | undefined;
}

export interface ReaderParts {
  primary: Pick<BlockDevice, 'read' | 'label'>;
  geometry: Geometry;
  catalogue: Catalogue;
}

function joins(last: Run | undefined, place: ChunkPlace | undefined, within: number): last is Run {
  if (!last) return false;
  if (!last.place || !place) return last.place === undefined && place === undefined;
  return last.place.file === place.file && last.place.fileOffset + last.length === place.fileOffset + within;
}

/** @throws SNAPSHOT_BROKEN */
export function assertIntact(layer: SnapshotLayer, disk: string): void {
  if (layer.state === 'intact') return;
  const gone = layer.state === 'deleting';
  throw new VhdkitError(
    'SNAPSHOT_BROKEN',
    gone
      ? `The snapshot '${layer.name}' of ${disk} is being deleted`
      : `The snapshot '${layer.name}' of ${disk} is broken: part of what it needs was overwritten without being kept`,
    {
      operation: 'read snapshot',
      context: { path: disk, snapshot: layer.name },
      hint: `Delete it: vhdkit snapshot delete ${disk} ${layer.name}`,
    },
  );
}

export class ChunkReader {
  readonly #parts: ReaderParts;

  constructor(parts: ReaderParts) {
    this.#parts = parts;
  }

  /** Where a chunk of a snapshot is; undefined: in the primary, if it stays there. */
  async find(
    layers: readonly SnapshotLayer[],
    from: SnapshotLayer,
    chunk: number,
  ): Promise<ChunkPlace | undefined> {
    const start = layers.indexOf(from);
    for (let index = Math.max(0, start); index < layers.length; index += 1) {
      const place = await layers[index]?.device.locate(chunk);
      if (place) return place;
    }
    return undefined;
  }

  /** Runs that cover the range exactly. */
  async runs(
    layers: readonly SnapshotLayer[],
    from: SnapshotLayer,
    offset: number,
    length: number,
  ): Promise<Run[]> {
    const { chunkSize } = this.#parts.geometry;
    const runs: Run[] = [];
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const chunk = Math.floor(at / chunkSize);
      const next = Math.min(end, (chunk + 1) * chunkSize);
      const place = await this.find(layers, from, chunk);
      const within = at - chunk * chunkSize;
      const last = runs.at(-1);
      if (joins(last, place, within)) last.length += next - at;
      else {
        const there = place && { file: place.file, fileOffset: place.fileOffset + within };
        runs.push({ offset: at, length: next - at, place: there });
      }
      at = next;
    }
    return runs;
  }

  /** Fills the buffer with what the snapshot shows. @throws SNAPSHOT_BROKEN, IO_FAILED, IMAGE_CORRUPT */
  async read(from: SnapshotLayer, buffer: Uint8Array, offset: number): Promise<void> {
    const { catalogue, primary } = this.#parts;
    await catalogue.reading((layers) => this.#read(layers, from, buffer, offset));
    // Last of all: it is recorded as broken before anything is overwritten without being kept.
    assertIntact(from, primary.label);
  }

  async #read(
    layers: readonly SnapshotLayer[],
    from: SnapshotLayer,
    buffer: Uint8Array,
    offset: number,
  ): Promise<void> {
    const runs = await this.runs(layers, from, offset, buffer.length);
    await Promise.all(
      runs.map(async (run) => {
        const part = buffer.subarray(run.offset - offset, run.offset - offset + run.length);
        if (run.place) await readPlace(run.place, part);
        else await this.#readPrimary(from, part, run.offset);
      }),
    );
  }

  async #readPrimary(from: SnapshotLayer, part: Uint8Array, offset: number): Promise<void> {
    const { catalogue, primary } = this.#parts;
    await primary.read(part, offset);
    // With the layers that are there by now: one of them may have been added, and got the chunk, meanwhile.
    await catalogue.reading(async (layers) => {
      for (const run of await this.runs(layers, from, offset, part.length)) {
        const at = run.offset - offset;
        if (run.place) await readPlace(run.place, part.subarray(at, at + run.length));
      }
    });
  }
}

async function readPlace({ file, fileOffset }: Pick<ChunkPlace, 'file' | 'fileOffset'>, part: Uint8Array) {
  const count = await file.read(part, fileOffset);
  // The place ends with its file: what is not there is a hole.
  if (count < part.length) part.fill(0, count);
}
