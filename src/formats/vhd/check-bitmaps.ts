/**
 * Sector bitmaps of dynamic disks against what is in the file.
 *
 * Clear bits over bytes that are not zero: readers that ignore bitmaps (QEMU among them) show those bytes.
 */
import { isZero } from '../../base/zeros.js';
import { placeOf } from './block-place.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import { bitmapRuns, parseBitmap, sectorsOf } from './sector-bitmap.js';
import type { SparseStructures } from './structures.js';

const SCAN_BYTES = 256 * 1024;

/** XenServer's storage is not zeroed, so there clear bits over data mean nothing. */
export function bitmapsMatter({ type, footer }: SparseStructures): boolean {
  return type === 'dynamic' && !footer.creatorApplication.startsWith('tap');
}

/** True when the range holds a byte that is not zero. Holes are not read. */
async function holdsData({ file }: SparseStructures, from: number, to: number): Promise<boolean> {
  for (let at = from; at < to; ) {
    const data = file.nextData(at, to);
    if (!data) return false;
    const end = Math.min(data.offset + data.length, to);
    for (let offset = data.offset; offset < end; offset += SCAN_BYTES) {
      const buffer = new Uint8Array(Math.min(SCAN_BYTES, end - offset));
      const count = await file.read(buffer, offset);
      if (!isZero(buffer.subarray(0, count))) return true;
    }
    at = end;
  }
  return false;
}

/** True when the bitmap of the block at this entry says zero for sectors that hold data. */
export async function hidesData(structures: SparseStructures, entry: number): Promise<boolean> {
  const { rules, table, file } = structures;
  const sectors = sectorsOf(table.blockSize);
  const bytes = new Uint8Array(table.bitmapBytes);
  const place = placeOf(entry, rules);
  bytes.fill(0, await file.read(bytes, place.bitmapOffset));
  const bitmap = parseBitmap(bytes, sectors);
  if (bitmap === 'full') return false;
  for (const run of bitmapRuns(bitmap, 0, sectors)) {
    const from = place.dataOffset + run.start * SECTOR_BYTES;
    const to = Math.min(place.dataOffset + run.end * SECTOR_BYTES, place.dataEnd);
    if (!run.present && (await holdsData(structures, from, to))) return true;
  }
  return false;
}
