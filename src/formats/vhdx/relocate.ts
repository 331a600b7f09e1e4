/**
 * Moving payload blocks and sector bitmap blocks of a VHDX within its file.
 *
 * Invariant: the table names a new place only through the log, after what was copied there is durable; the
 * old place is given out again only after that. States and bits stay as they are (MS-VHDX 2.5.1).
 *
 * Units are numbered by their entries in the BAT, where sector bitmaps come behind the blocks of their chunk.
 * Not here: copying.
 */
import { MiB, roundUp } from '../../base/bytes.js';
import type { ByteRange } from '../../io/random-access-file.js';
import type { StoredUnit } from '../relocatable-image.js';
import { bitmapIndex, payloadIndex, SECTOR_BITMAP_MIB } from './bat.js';
import { hasPayload, isAnchor } from './block-changes.js';
import { BlockTable } from './block-table.js';
import type { EditContext } from './edit-context.js';
import { HEADER_SECTION_END } from './layout.js';
import { occupiedRanges } from './open.js';

export const PAYLOAD_ALIGNMENT = { smallest: MiB, usual: MiB } as const;

const BITMAP_LENGTH = SECTOR_BITMAP_MIB * MiB;

function tableOf({ pages, structures }: EditContext): BlockTable {
  return new BlockTable(pages, structures.geometry, structures.regions.bat.offset);
}

/** What an entry of the BAT is for. */
function subjectOf({ structures }: EditContext, id: number): { chunk: number } | { block: number } {
  const { chunkRatio } = structures.geometry;
  const chunk = Math.floor(id / (chunkRatio + 1));
  const within = id % (chunkRatio + 1);
  return within === chunkRatio ? { chunk } : { block: chunk * chunkRatio + within };
}

/** Entries that are zero are skipped page by page: a disk of 64 TiB has 67 million. */
export async function* storedUnits(context: EditContext): AsyncGenerator<StoredUnit> {
  const { geometry, metadata } = context.structures;
  const { blocks, chunks, chunkRatio, blockSize } = geometry;
  const table = tableOf(context);
  for (let chunk = 0; chunk < chunks; chunk += 1) {
    const end = Math.min(blocks, (chunk + 1) * chunkRatio);
    for (let block = chunk * chunkRatio; ; block += 1) {
      block = await table.nextUsed(block, end);
      if (block >= end) break;
      const { state, place } = await table.entry(block);
      const kind = hasPayload(state) ? 'payload' : isAnchor(state) && place > 0 ? 'anchor' : undefined;
      if (kind) yield { id: payloadIndex(geometry, block), fileOffset: place, length: blockSize, kind };
    }
    const bitmap = metadata.hasParent ? await table.bitmap(chunk) : undefined;
    if (bitmap !== undefined)
      yield { id: bitmapIndex(geometry, chunk), fileOffset: bitmap, length: BITMAP_LENGTH, kind: 'bitmap' };
  }
}

/** Headers, log and regions. */
export function structureRanges({ structures }: EditContext): ByteRange[] {
  const owned = [...occupiedRanges(structures)].map(({ offset, length }) => ({ offset, length }));
  return [{ offset: 0, length: HEADER_SECTION_END }, ...owned];
}

export function placeFrom(offset: number, alignment: number): number {
  return roundUp(Math.max(offset, HEADER_SECTION_END), alignment);
}

/** The unit's bytes are at `fileOffset` now. */
export async function relocateUnit(context: EditContext, id: number, fileOffset: number): Promise<void> {
  const { pages, space, structures } = context;
  const table = tableOf(context);
  const subject = subjectOf(context, id);
  await pages.reserve(1);
  if ('chunk' in subject) {
    const before = await table.bitmap(subject.chunk);
    space.occupy(fileOffset, BITMAP_LENGTH);
    await table.setBitmap(subject.chunk, fileOffset);
    if (before !== undefined) space.release(before, BITMAP_LENGTH);
    return;
  }
  const { state, place } = await table.entry(subject.block);
  const { blockSize } = structures.geometry;
  space.occupy(fileOffset, blockSize);
  await table.setEntry(subject.block, state, fileOffset);
  space.release(place, blockSize);
}

/** The block reads as before, without a place. */
export async function dropAnchor(context: EditContext, id: number): Promise<void> {
  const { pages, space, structures } = context;
  const table = tableOf(context);
  const subject = subjectOf(context, id);
  if (!('block' in subject)) return;
  const { state, place } = await table.entry(subject.block);
  if (!isAnchor(state) || place === 0) return;
  await pages.reserve(1);
  await table.setEntry(subject.block, state);
  space.release(place, structures.geometry.blockSize);
}
