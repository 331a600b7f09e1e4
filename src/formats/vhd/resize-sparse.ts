/**
 * Changes the size of a dynamic or differencing VHD.
 *
 * Invariants: at every instant the disk has its old size or the new one, with the content it had. Growing, the
 * table gets its entries and the new part its zeros first, and the size changes last; shrinking, the size
 * changes first. The header says at every instant that there are at least as many entries as blocks.
 *
 * What stands behind the table and is in its way moves: blocks to the end, locators behind the larger table.
 * A batmap is given up.
 */
import { roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { ResizeOptions } from '../editable-image.js';
import { UNALLOCATED } from './bat.js';
import type { BlockWriter } from './block-writer.js';
import { type BlockTable, HEADER_FIELD, MAX_TABLE_ENTRIES, SECTOR_BYTES } from './dynamic-header.js';
import { FOOTER_FIELD, MAX_DYNAMIC_SIZE } from './footer.js';
import { writeSize } from './footer-size.js';
import { vacate } from './front-room.js';
import { changeFirstSector, replaceHeader, usualHeaderOffset } from './header-update.js';
import { roomFor, storedLocators } from './parent-update.js';
import type { SparseState } from './sparse-state.js';

/** Table bytes written at a time. */
const PAGE_BYTES = 64 * 1024;

/**
 * Durable when it returns.
 * @throws TARGET_TOO_SMALL, UNSUPPORTED (no room for the table), NO_SPACE, IO_FAILED
 */
export async function resizeSparse(
  state: SparseState,
  writer: BlockWriter,
  virtualSize: number,
  options: ResizeOptions,
): Promise<void> {
  judge(state, virtualSize);
  await writer.quiesce();
  if (virtualSize > state.virtualSize) await grow(state, writer, virtualSize, options);
  else await shrink(state, writer, virtualSize);
  await setEntries(state, state.table.table.blocks);
  await writer.flush();
}

function judge(state: SparseState, virtualSize: number): void {
  const { path } = state.file;
  const refuse = (code: 'TARGET_TOO_SMALL' | 'UNSUPPORTED', message: string, hint: string): never => {
    throw new VhdkitError(code, `${path}: ${message}`, {
      operation: 'resize',
      context: { path, offset: FOOTER_FIELD.currentSize },
      hint,
    });
  };
  if (state.file.kind === 'device') {
    refuse('UNSUPPORTED', "it is on a device, so its size can't be changed", 'Convert it into a file.');
  }
  if (virtualSize > MAX_DYNAMIC_SIZE) {
    refuse(
      'TARGET_TOO_SMALL',
      'a dynamic VHD ends at 2040 GiB',
      'Convert it to VHDX, which goes up to 64 TiB.',
    );
  }
  if (Math.ceil(virtualSize / state.table.table.blockSize) > MAX_TABLE_ENTRIES) {
    refuse('TARGET_TOO_SMALL', 'its blocks are too small for such a size', 'Convert it with larger blocks.');
  }
  if (state.virtualSize % SECTOR_BYTES !== 0) {
    refuse('UNSUPPORTED', 'its size is not a multiple of 512', 'Convert it into a new image.');
  }
}

/** The table as it is to be for a size. */
function tableFor(table: BlockTable, virtualSize: number): BlockTable {
  return { ...table, blocks: Math.ceil(virtualSize / table.blockSize) };
}

async function grow(
  state: SparseState,
  writer: BlockWriter,
  virtualSize: number,
  options: ResizeOptions,
): Promise<void> {
  const oldSize = state.virtualSize;
  const table = tableFor(state.table.table, virtualSize);
  await zeroTail(state);
  await extendTable(state, writer, table.blocks);
  // From here on the table is long enough; readers look at the blocks of the old size only.
  state.table.replace({ ...state.table.table, blocks: table.blocks });
  const shown = Math.min(virtualSize, options.parentSize ?? 0);
  if (state.type === 'differencing' && shown > oldSize) {
    await writer.zero(oldSize, roundUp(shown, SECTOR_BYTES) - oldSize);
    await writer.flush();
  }
  await state.file.flush();
  await state.footers.change(writeSize(virtualSize));
  state.virtualSize = virtualSize;
}

/** What is stored in the last block behind the end of the disk comes into view: it has to be zero. */
async function zeroTail(state: SparseState): Promise<void> {
  const { table, virtualSize, space, file } = state;
  const { blockSize, bitmapBytes, blocks } = table.table;
  const used = virtualSize - (blocks - 1) * blockSize;
  const entry = await table.entry(blocks - 1);
  if (used === blockSize || entry === UNALLOCATED) return;
  const dataOffset = entry * SECTOR_BYTES + bitmapBytes;
  await space.reach(dataOffset + blockSize);
  await file.zero(dataOffset + used, blockSize - used);
  await file.flush();
}

/** Makes the table long enough. New entries say "not allocated", whatever was there. */
async function extendTable(state: SparseState, writer: BlockWriter, entries: number): Promise<void> {
  const { offset, blocks, entries: present } = state.table.table;
  const oldEnd = offset + present * 4;
  const newEnd = roundUp(offset + Math.max(entries, present) * 4, SECTOR_BYTES);
  if (entries > present) await clearWay(state, writer, oldEnd, newEnd);
  const first = offset + blocks * 4;
  const end = entries > present ? newEnd : offset + entries * 4;
  for (let at = first; at < end; at += PAGE_BYTES) {
    await state.file.write(new Uint8Array(Math.min(PAGE_BYTES, end - at)).fill(0xff), at);
  }
  await state.file.flush();
  if (entries > present) await setEntries(state, entries);
}

/** Moves out of `[start, end)`, which lies right behind the table, whatever is there. */
async function clearWay(state: SparseState, writer: BlockWriter, start: number, end: number): Promise<void> {
  const overlaps = (range: { start: number; end: number }) => range.start < end && range.end > start;
  await giveUpBatmap(state);
  await vacate(state, writer, start, end);
  const texts = await storedLocators(state);
  const header = { start: state.headerOffset, end: state.headerOffset + state.header.length };
  const inTheWay = texts.some(({ offset, room }) => overlaps({ start: offset, end: offset + room }));
  if (!inTheWay && !overlaps(header)) return;
  const offset = await usualHeaderOffset(state);
  if (overlaps({ start: offset, end: offset + state.header.length })) {
    const { path } = state.file;
    throw new VhdkitError('UNSUPPORTED', `${path}: the header is in the way of a larger block table`, {
      operation: 'resize',
      context: { path, offset },
      hint: 'Convert it into a new image first.',
    });
  }
  // Locators go behind the larger table.
  const places = await roomFor(state, writer, offset, texts, { offset: start, length: end - start });
  await replaceHeader(state, state.header, offset, places);
}

/** blktap looks for its batmap right behind the table, so it can't stay when the table changes its length. */
async function giveUpBatmap(state: SparseState): Promise<void> {
  if (state.batmap.length === 0) return;
  await state.dropBatmap();
  state.batmap = [];
  state.refreshMetadata();
}

async function setEntries(state: SparseState, entries: number): Promise<void> {
  if (state.table.table.entries === entries) return;
  await giveUpBatmap(state);
  await changeFirstSector(state, (view) => view.setUint32(HEADER_FIELD.maxTableEntries, entries));
  state.table.replace({ ...state.table.table, entries });
  state.refreshMetadata();
}

async function shrink(state: SparseState, writer: BlockWriter, virtualSize: number): Promise<void> {
  const old = state.table.table;
  const { blocks } = tableFor(old, virtualSize);
  await state.footers.change(writeSize(virtualSize));
  state.virtualSize = virtualSize;
  await writer.drop(blocks, old.blocks);
  await writer.flush();
  state.table.replace({ ...old, blocks });
  await writer.trimTail();
}
