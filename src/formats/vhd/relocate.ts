/**
 * Moving blocks of a dynamic or differencing VHD within its file: a block goes with its bitmap, which stands
 * right before its data.
 *
 * Invariant: a new place is named by the table only with the next flush, after what was copied there is
 * durable; the old place is given out again only after that. The disk shows the same all the time.
 *
 * Not here: copying. What calls this sees to it that one change runs at a time.
 */
import { assert } from '../../base/assert.js';
import { roundUp } from '../../base/bytes.js';
import type { ByteRange } from '../../io/random-access-file.js';
import type { StoredUnit } from '../relocatable-image.js';
import { UNALLOCATED } from './bat.js';
import { ALIGNMENT } from './block-slots.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import type { SparseState } from './sparse-state.js';

/** Blocks lie on whole sectors; 4 KiB is what Windows 8 and later use, and what file systems can share. */
export const PAYLOAD_ALIGNMENT = { smallest: SECTOR_BYTES, usual: ALIGNMENT } as const;

/** Blocks that are stored, by number. */
export async function* storedBlocks(state: SparseState): AsyncGenerator<StoredUnit> {
  const { bitmapBytes, blockSize } = state.table.table;
  const length = bitmapBytes + blockSize;
  for await (const { first, entries } of state.pages()) {
    for (const [index, entry] of entries.entries()) {
      if (entry === UNALLOCATED) continue;
      yield { id: first + index, fileOffset: entry * SECTOR_BYTES, length, kind: 'payload' };
    }
  }
}

/** Footer copy, header, table, batmap and locators; what touches is one range. */
export function structureRanges(state: SparseState): ByteRange[] {
  const ranges: ByteRange[] = [];
  const sorted = [...state.rules.metadata].sort((a, b) => a.start - b.start);
  for (const { start, end } of sorted) {
    const last = ranges.at(-1);
    if (last && start <= last.offset + last.length) {
      last.length = Math.max(last.length, end - last.offset);
    } else ranges.push({ offset: start, length: end - start });
  }
  return ranges;
}

/** The lowest sector at or after `offset` where a block's bitmap may stand so that its data is aligned. */
export function placeFrom(state: SparseState, offset: number, alignment: number): number {
  const { bitmapBytes } = state.table.table;
  return roundUp(offset + bitmapBytes, alignment) - bitmapBytes;
}

/** The block's bitmap and data are at `fileOffset` now. */
export async function relocateBlock(state: SparseState, block: number, fileOffset: number): Promise<void> {
  const { bitmapBytes } = state.table.table;
  const entry = await state.table.entry(block);
  assert(entry !== UNALLOCATED, 'only stored blocks are moved');
  assert(fileOffset % SECTOR_BYTES === 0, 'blocks begin at sectors');
  const before = state.reader.judgedPlace(block, entry);
  state.bitmaps.forget(block, before.bitmapOffset);
  state.bitmaps.forget(block, fileOffset);
  state.space.occupy(fileOffset + bitmapBytes);
  state.table.set(block, fileOffset / SECTOR_BYTES);
  state.space.retire(before.dataOffset);
}
