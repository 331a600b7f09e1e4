/**
 * The batmap that XenServer (blktap) puts behind the BAT.
 *
 * It is not needed for reading: it only repeats which sector bitmaps are full. But its space is in use, so
 * `check` has to know where it is.
 */
import { roundUp } from '../../base/bytes.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { MetadataRange } from './block-place.js';
import { type BlockTable, SECTOR_BYTES } from './dynamic-header.js';
import { cookieOf } from './footer.js';

const COOKIE = 'tdbatmap';
/** One bit per BAT entry can't take more than this, with the largest table accepted. */
const MAX_MAP_BYTES = 4 * 1024 * 1024;

/**
 * The ranges taken by the batmap's header and map; none when there is no batmap.
 * Source: blktap's layout, the header directly behind the BAT: cookie, u64 byte offset, u32 sectors.
 */
export async function batmapRanges(
  file: RandomAccessFile,
  table: BlockTable,
  limit: number,
): Promise<MetadataRange[]> {
  const start = roundUp(table.offset + table.entries * 4, SECTOR_BYTES);
  if (start + SECTOR_BYTES > limit) return [];
  const bytes = new Uint8Array(SECTOR_BYTES);
  const count = await file.read(bytes, start);
  if (count < SECTOR_BYTES || cookieOf(bytes) !== COOKIE) return [];
  const ranges: MetadataRange[] = [{ name: 'the batmap header', start, end: start + SECTOR_BYTES }];
  const view = new DataView(bytes.buffer);
  const mapOffset = view.getBigUint64(8);
  const mapBytes = view.getUint32(16) * SECTOR_BYTES;
  if (mapBytes <= MAX_MAP_BYTES && mapOffset + BigInt(mapBytes) <= BigInt(limit)) {
    const at = Number(mapOffset);
    ranges.push({ name: 'the batmap', start: at, end: at + mapBytes });
  }
  return ranges;
}
