/**
 * Moves what older snapshots need of a layer that is going to be deleted.
 *
 * The nearest older intact snapshot reads through the layer: each chunk that it does not find before is copied to
 * its own device, where it has not been written yet. Nothing that anybody sees changes, so it can stop at any
 * instant and be done again.
 */
import { throwIfAborted } from '../../base/errors.js';
import type { ChunkWrite } from '../../block/write-once-device.js';
import type { CopyAndWriter } from '../../offload/copy-and-write.js';
import { runLimited } from '../../offload/run-limited.js';
import type { SnapshotLayer } from './catalogue.js';
import type { SweepOptions } from './restore-run.js';
import type { SnapshotVolume } from './snapshot-volume.js';

export interface MoveDownParts extends SweepOptions {
  layer: SnapshotLayer;
  volume: Pick<SnapshotVolume, 'catalogue'>;
  copier: CopyAndWriter;
}

/** Chunks that are sealed with one flush. */
const BATCH = 128;
const CHUNKS_IN_FLIGHT = 8;

/** @throws NO_SPACE, CANCELLED, IO_FAILED, IMAGE_CORRUPT */
export async function moveDown(parts: MoveDownParts): Promise<void> {
  const { layer, volume, signal, onProgress } = parts;
  await volume.catalogue.reading(async (layers) => {
    const index = layers.indexOf(layer);
    const older = layers.slice(0, index);
    const start = older.findLastIndex(({ state }) => state === 'intact');
    const heir = older[start];
    if (!heir) return;
    const before = older.slice(start);
    let moved = 0;
    let batch: number[] = [];
    const put = async (): Promise<void> => {
      throwIfAborted(signal, 'delete snapshot', 'Run the command again: it goes on.');
      moved += await moveChunks(batch, parts, heir, before);
      batch = [];
      onProgress?.(moved);
    };
    for await (const chunk of layer.device.written()) {
      batch.push(chunk);
      if (batch.length === BATCH) await put();
    }
    if (batch.length > 0) await put();
  });
}

/** Answers the bytes that were moved. */
async function moveChunks(
  chunks: readonly number[],
  { layer, copier, signal }: MoveDownParts,
  heir: SnapshotLayer,
  before: readonly SnapshotLayer[],
): Promise<number> {
  let moved = 0;
  const writes: ChunkWrite[] = [];
  try {
    await runLimited(chunks, CHUNKS_IN_FLIGHT, async (chunk) => {
      for (const { device } of before) if (await device.isWritten(chunk)) return;
      const place = await layer.device.locate(chunk);
      const write = place && (await heir.device.begin(chunk));
      if (!place || !write || write === 'written') return;
      writes.push(write);
      await copier.copy(place, write.place, place.length, signal);
      moved += place.length;
    });
  } catch (error) {
    for (const write of writes) await write.abandon().catch(() => undefined);
    throw error;
  }
  if (writes.length > 0) await heir.device.sealAll(writes);
  return moved;
}
