/**
 * Room before the first block, where header, table and locators belong: some readers can't do with them
 * behind a block.
 *
 * Invariant: a block that is in the way is copied to the end, made durable there and only then named there;
 * its old place stays as it was until somebody writes to it.
 */
import { roundUp } from '../../base/bytes.js';
import type { ByteRange } from '../../io/random-access-file.js';
import { UNALLOCATED } from './bat.js';
import { placeOf } from './block-place.js';
import type { BlockWriter } from './block-writer.js';
import { HEADER_BYTES, SECTOR_BYTES } from './dynamic-header.js';
import { FOOTER_BYTES, HEADER_AFTER_FOOTER } from './footer.js';
import type { SparseState } from './sparse-state.js';

/** Blocks moved with one pass over the table. */
const BATCH = 256;
const COPY_BYTES = 1024 * 1024;

interface StoredBlock {
  block: number;
  entry: number;
}

/** Makes a range free of blocks. Metadata in it is the caller's affair. Nothing may wait to be written. */
export async function vacate(
  state: SparseState,
  writer: BlockWriter,
  start: number,
  end: number,
): Promise<void> {
  await state.space.reserve(start, end);
  for (;;) {
    const batch = await blocksWithin(state, start, end);
    if (batch.length === 0) return;
    for (const each of batch) await moveToEnd(state, each);
    await writer.flush();
  }
}

async function blocksWithin(state: SparseState, start: number, end: number): Promise<StoredBlock[]> {
  const { bitmapBytes, blockSize } = state.table.table;
  const found: StoredBlock[] = [];
  for await (const { first, entries } of state.pages()) {
    for (const [index, entry] of entries.entries()) {
      const at = entry * SECTOR_BYTES;
      if (entry === UNALLOCATED || at >= end || at + bitmapBytes + blockSize <= start) continue;
      found.push({ block: first + index, entry });
      if (found.length === BATCH) return found;
    }
  }
  return found;
}

async function moveToEnd(state: SparseState, { block, entry }: StoredBlock): Promise<void> {
  const { file, space, table, bitmaps } = state;
  const { bitmapOffset, dataEnd } = placeOf(entry, state.rules);
  const dataOffset = await space.take();
  const target = dataOffset - table.table.bitmapBytes;
  for (let at = bitmapOffset; at < dataEnd; ) {
    const data = file.nextData(at, dataEnd);
    if (!data) break;
    const buffer = new Uint8Array(Math.min(COPY_BYTES, data.length, dataEnd - data.offset));
    const count = await file.read(buffer, data.offset);
    await file.write(buffer.subarray(0, count), data.offset - bitmapOffset + target);
    at = data.offset + buffer.length;
  }
  bitmaps.forget(block, bitmapOffset);
  bitmaps.forget(block, target);
  table.set(block, space.entryOf(dataOffset));
}

/** Where the first block begins; where everything ends when there is none. */
export async function firstBlockOffset(state: SparseState): Promise<number> {
  let first = UNALLOCATED;
  for await (const { entries } of state.pages()) {
    for (const entry of entries) if (entry < first) first = entry;
  }
  return first === UNALLOCATED ? state.space.end : first * SECTOR_BYTES;
}

/** Where footer copy, header, table and batmap end; a header behind blocks does not count. */
export function frontEnd(state: SparseState, headerOffset: number): number {
  const { offset, entries } = state.table.table;
  const header = headerOffset === HEADER_AFTER_FOOTER ? headerOffset + HEADER_BYTES : FOOTER_BYTES;
  const ends = [header, offset + entries * 4, ...state.batmap.map(({ end }) => end)];
  return roundUp(Math.max(...ends), SECTOR_BYTES);
}

/**
 * Parts of `[0, end)` that hold neither footer copy, header nor table and are not in `except`, in file order;
 * whole sectors.
 */
export function frontGaps(
  state: SparseState,
  headerOffset: number,
  end: number,
  except: ByteRange = { offset: 0, length: 0 },
): ByteRange[] {
  const { offset, entries } = state.table.table;
  const taken = [
    { start: 0, end: FOOTER_BYTES },
    { start: headerOffset, end: headerOffset + HEADER_BYTES },
    { start: offset, end: roundUp(offset + entries * 4, SECTOR_BYTES) },
    { start: except.offset, end: except.offset + except.length },
    ...state.batmap,
  ].sort((a, b) => a.start - b.start);
  const gaps: ByteRange[] = [];
  let at = 0;
  for (const range of taken) {
    const until = Math.min(range.start, end);
    if (until > at) gaps.push({ offset: at, length: until - at });
    at = Math.max(at, roundUp(range.end, SECTOR_BYTES));
  }
  if (end > at) gaps.push({ offset: at, length: end - at });
  return gaps;
}
