/**
 * Changes the dynamic header, of which a VHD has only one copy, in two sectors.
 *
 * Invariants: at every instant the footers lead to a header that is whole, old or new. A change within the
 * first sector is one write. Any other goes by a second header behind all blocks: written, made durable, named
 * by the footers, and only then the one in the usual place is overwritten, named again, and the second one cut
 * off. So the header stays where programs that look nowhere else expect it.
 *
 * Deliberately not here: what is to be changed (parent-update.ts, resize-sparse.ts).
 */
import { sealChecksum } from './checksum.js';
import { HEADER_BYTES, HEADER_FIELD, SECTOR_BYTES } from './dynamic-header.js';
import { FOOTER_FIELD, HEADER_AFTER_FOOTER } from './footer.js';
import { firstBlockOffset, frontGaps } from './front-room.js';
import { placeInRow } from './locator-places.js';
import { type LocatorText, locatorRoom, type PlacedLocator, writeLocators } from './parent-fields.js';
import type { SparseState } from './sparse-state.js';

/** Changes fields of the header's first sector with one write. Durable when it returns. */
export async function changeFirstSector(
  state: SparseState,
  edit: (view: DataView, header: Uint8Array) => void,
): Promise<void> {
  const header = Uint8Array.from(state.header);
  edit(new DataView(header.buffer), header);
  sealChecksum(header, HEADER_FIELD.checksum);
  await state.file.write(header.subarray(0, SECTOR_BYTES), state.headerOffset);
  await state.file.flush();
  state.adoptHeader(header, state.headerOffset);
}

/** Where the header belongs: behind the copy of the footer, unless something else is there. */
export async function usualHeaderOffset(state: SparseState): Promise<number> {
  const { headerOffset } = state;
  const free = frontGaps(state, headerOffset, await firstBlockOffset(state));
  const fits = free.some(({ offset, length }) => {
    return offset <= HEADER_AFTER_FOOTER && offset + length >= HEADER_AFTER_FOOTER + HEADER_BYTES;
  });
  return fits ? HEADER_AFTER_FOOTER : headerOffset;
}

async function writeHeader(
  state: SparseState,
  base: Uint8Array,
  offset: number,
  locators: readonly PlacedLocator[],
): Promise<void> {
  const { file, footers } = state;
  const header = Uint8Array.from(base);
  writeLocators(header, locators);
  sealChecksum(header, HEADER_FIELD.checksum);
  for (const locator of locators) {
    const padded = new Uint8Array(locatorRoom(locator));
    padded.set(locator.bytes);
    await file.write(padded, locator.offset);
  }
  await file.write(header, offset);
  await file.flush();
  await footers.change((view) => view.setBigUint64(FOOTER_FIELD.dataOffset, BigInt(offset)));
  state.adoptHeader(header, offset);
}

/**
 * Replaces header and locators. Durable when it returns.
 * @param header the new header; its locators and checksum are filled in
 * @param offset where it goes (`usualHeaderOffset`)
 * @param locators with their places, which may be those of the old ones; no block is there
 */
export async function replaceHeader(
  state: SparseState,
  header: Uint8Array,
  offset: number,
  locators: readonly PlacedLocator[],
): Promise<void> {
  const { space, file } = state;
  const texts: readonly LocatorText[] = locators;
  const length = texts.reduce((sum, text) => sum + locatorRoom(text), HEADER_BYTES);
  const tail = await space.takeTail(length);
  await writeHeader(state, header, tail, placeInRow(texts, tail + HEADER_BYTES));
  await writeHeader(state, header, offset, locators);
  space.returnTail(tail);
  const lowered = await space.lowerFooter();
  if (lowered === undefined) return;
  await file.flush();
  await space.cutTail(lowered);
  await file.flush();
}
