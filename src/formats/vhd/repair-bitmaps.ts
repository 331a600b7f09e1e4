/**
 * Sector bitmaps of dynamic disks that say zero where the file holds data: some readers believe the bitmap, some
 * do not, and each sees another disk.
 *
 * Invariant: the bitmap is believed, as by every read of ours. The bytes it hides are zeroed and durable before
 * its bits are set, so that both kinds of readers see the same from then on.
 */
import { throwIfAborted } from '../../base/errors.js';
import { type BlockAllocationTable, UNALLOCATED } from './bat.js';
import { placeOf } from './block-place.js';
import { hidesData } from './check-bitmaps.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import { bitmapRuns, fullBitmap, parseBitmap, sectorsOf } from './sector-bitmap.js';
import type { SparseStructures } from './structures.js';

/** Blocks between two flushes. */
const BATCH = 256;

export async function settleBitmaps(
  structures: SparseStructures,
  bat: BlockAllocationTable,
  signal?: AbortSignal,
): Promise<void> {
  const { rules, file, table } = structures;
  let waiting: number[] = [];
  const full = fullBitmap(table.blockSize, table.bitmapBytes);
  const finish = async (): Promise<void> => {
    if (waiting.length === 0) return;
    await file.flush();
    for (const offset of waiting) await file.write(full, offset);
    await file.flush();
    waiting = [];
  };
  for await (const { entries } of bat.pages()) {
    for (const entry of entries) {
      if (entry === UNALLOCATED) continue;
      throwIfAborted(signal, 'repair');
      const { bitmapOffset } = placeOf(entry, rules);
      if (!(await hidesData(structures, entry))) continue;
      await zeroHidden(structures, entry);
      waiting.push(bitmapOffset);
      if (waiting.length >= BATCH) await finish();
    }
  }
  await finish();
}

async function zeroHidden(structures: SparseStructures, entry: number): Promise<void> {
  const { rules, file, table } = structures;
  const place = placeOf(entry, rules);
  const sectors = sectorsOf(table.blockSize);
  const bytes = new Uint8Array(table.bitmapBytes);
  await file.read(bytes, place.bitmapOffset);
  for (const run of bitmapRuns(parseBitmap(bytes, sectors), 0, sectors)) {
    if (run.present) continue;
    const from = place.dataOffset + run.start * SECTOR_BYTES;
    const to = Math.min(place.dataOffset + run.end * SECTOR_BYTES, place.dataEnd);
    if (to > from) await file.zero(from, to - from);
  }
}
