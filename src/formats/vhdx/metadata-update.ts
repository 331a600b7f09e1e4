/**
 * Changing items of the metadata region (MS-VHDX 2.6), in the dirty pages: they reach the file through the log.
 *
 * Invariant: everything one call changes reaches the file together with what is changed before the next flush;
 * the caller has reserved the sectors.
 */
import { VhdkitError } from '../../base/errors.js';
import { viewOf } from './binary.js';
import { vhdxCorrupt } from './defects.js';
import type { DirtyPages } from './dirty-pages.js';
import { METADATA_TABLE_LENGTH } from './layout.js';
import { LOG_SECTOR } from './log-codec.js';
import { decodeMetadataTable, ITEM_LENGTH_AT, ITEM_OFFSET_AT, type MetadataEntry } from './metadata-table.js';
import { PAGE_LENGTH } from './page-cache.js';
import type { OwnedRange } from './region-table.js';

/** Sectors that bytes of this length can touch. */
export function sectorsTouched(length: number): number {
  return Math.ceil(length / LOG_SECTOR) + 1;
}

/** Changes bytes at any place. */
async function changeBytes(pages: DirtyPages, offset: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const count = Math.min(bytes.length - done, PAGE_LENGTH - ((offset + done) % PAGE_LENGTH));
    const part = bytes.subarray(done, done + count);
    await pages.change(offset + done, count, (target) => target.set(part));
    done += count;
  }
}

/** Region, pages and the file's name: what finding an item takes. */
export interface MetadataPages {
  pages: DirtyPages;
  region: OwnedRange;
  path: string;
}

async function entries({ pages, region, path }: MetadataPages): Promise<MetadataEntry[]> {
  return decodeMetadataTable(await pages.read(region.offset, METADATA_TABLE_LENGTH), region, path);
}

async function entryOf(metadata: MetadataPages, guid: string): Promise<MetadataEntry> {
  const entry = (await entries(metadata)).find((each) => each.guid === guid && !each.isUser);
  if (entry) return entry;
  const { region, path } = metadata;
  throw vhdxCorrupt('VHDX_METADATA_ITEM_MISSING', `metadata item ${guid} is missing`, path, region.offset);
}

/** Replaces an item's content by as many bytes. */
export async function overwriteItem(metadata: MetadataPages, guid: string, bytes: Uint8Array): Promise<void> {
  const entry = await entryOf(metadata, guid);
  await changeBytes(metadata.pages, metadata.region.offset + entry.offset, bytes);
}

/**
 * Replaces an item by one of another length: in the first gap of the region that is large enough, which can be
 * where the item is now.
 * @throws UNSUPPORTED when the region has no room
 */
export async function replaceItem(metadata: MetadataPages, guid: string, bytes: Uint8Array): Promise<number> {
  const { pages, region, path } = metadata;
  const entry = await entryOf(metadata, guid);
  const others = (await entries(metadata)).filter((each) => each.fileOffset !== entry.fileOffset);
  const offset = firstGap(others, bytes.length, region.length);
  if (offset === undefined) {
    throw new VhdkitError('UNSUPPORTED', `${path}: no room for ${bytes.length} bytes of metadata`, {
      operation: 'change metadata',
      context: { path, offset: region.offset, length: region.length },
      hint: 'Convert the image to a new one.',
    });
  }
  await changeBytes(pages, region.offset + offset, bytes);
  await pages.change(entry.fileOffset, ITEM_LENGTH_AT + 4, (_bytes, view) => {
    view.setUint32(ITEM_OFFSET_AT, offset, true);
    view.setUint32(ITEM_LENGTH_AT, bytes.length, true);
  });
  return region.offset + offset;
}

/** The lowest offset behind the table, a multiple of eight, where `length` bytes are free. */
function firstGap(taken: readonly MetadataEntry[], length: number, regionLength: number): number | undefined {
  let at = METADATA_TABLE_LENGTH;
  for (const entry of taken.filter((each) => each.length > 0).sort((a, b) => a.offset - b.offset)) {
    if (at + length <= entry.offset) return at;
    at = Math.max(at, Math.ceil((entry.offset + entry.length) / 8) * 8);
  }
  return at + length <= regionLength ? at : undefined;
}

/** A u64 item's bytes. */
export function u64Item(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, BigInt(value), true);
  return bytes;
}
