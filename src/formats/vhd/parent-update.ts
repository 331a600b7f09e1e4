/**
 * Gives a differencing VHD another parent, or tells it where its parent is now.
 *
 * Invariant: at every instant the image names the old parent or the new one.
 */
import { VhdkitError } from '../../base/errors.js';
import type { ByteRange } from '../../io/random-access-file.js';
import type { ParentLink } from '../disk-image.js';
import type { NewParentLink } from '../editable-image.js';
import type { BlockWriter } from './block-writer.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import { firstBlockOffset, frontEnd, frontGaps, vacate } from './front-room.js';
import { changeFirstSector, replaceHeader, usualHeaderOffset } from './header-update.js';
import { placeLocators, usualRoom } from './locator-places.js';
import { type LocatorText, locatorTexts, type PlacedLocator, writeParent } from './parent-fields.js';
import type { ReadableLocator } from './parent-locator.js';
import type { SparseState } from './sparse-state.js';
import { readFooter, readSparse } from './structures.js';

/**
 * Durable when it returns. Answers the link as a reader sees it.
 * @throws UNSUPPORTED (no differencing disk), NO_SPACE, IO_FAILED
 */
export async function setParentLink(
  state: SparseState,
  writer: BlockWriter,
  link: NewParentLink,
): Promise<ParentLink | undefined> {
  const { file, type } = state;
  if (type !== 'differencing') {
    throw new VhdkitError('UNSUPPORTED', `${file.path} is no differencing disk: it has no parent`, {
      operation: 'set parent',
      context: { path: file.path },
    });
  }
  await writer.quiesce();
  const texts = locatorTexts(link);
  const header = Uint8Array.from(state.header);
  writeParent(header, link);
  const sameEnd = Buffer.compare(header.subarray(SECTOR_BYTES), state.header.subarray(SECTOR_BYTES)) === 0;
  if (sameEnd && (await hasTexts(state, texts))) {
    await changeFirstSector(state, (_view, bytes) => writeParent(bytes, link));
  } else {
    const offset = await usualHeaderOffset(state);
    await replaceHeader(state, header, offset, await roomFor(state, writer, offset, texts));
  }
  return (await readSparse(await readFooter(file, {}))).parentLink;
}

/** The locators as they are, with their bytes. */
export async function storedLocators(state: SparseState): Promise<(ReadableLocator & LocatorText)[]> {
  return Promise.all(
    state.locators.map(async (locator) => {
      const bytes = new Uint8Array(locator.length);
      await state.file.read(bytes, locator.offset);
      return { ...locator, bytes };
    }),
  );
}

async function hasTexts(state: SparseState, texts: readonly LocatorText[]): Promise<boolean> {
  const stored = await storedLocators(state);
  const found = texts.every(({ code, bytes }) =>
    stored.some((locator) => locator.code === code && Buffer.compare(locator.bytes, bytes) === 0),
  );
  return found && stored.length === texts.length;
}

/**
 * Places before the first block for new locators, which may be where the old ones are.
 * @param except where none may go, a range at the end of the front's fixed structures
 */
export async function roomFor(
  state: SparseState,
  writer: BlockWriter,
  headerOffset: number,
  texts: readonly LocatorText[],
  except: ByteRange = { offset: 0, length: 0 },
): Promise<PlacedLocator[]> {
  const gaps = async () => {
    const end = Math.min(await firstBlockOffset(state), state.footers.limit);
    return frontGaps(state, headerOffset, end, except);
  };
  let free = await gaps();
  let places = placeLocators(texts, free);
  if (!places) {
    const start = Math.max(frontEnd(state, headerOffset), except.offset + except.length);
    const needed = texts.reduce((sum, text) => sum + usualRoom(text), 0);
    await vacate(state, writer, start, start + needed);
    free = await gaps();
    places = placeLocators(texts, free);
  }
  if (!places) {
    throw new VhdkitError('UNSUPPORTED', `${state.file.path}: no room for the path of the parent`, {
      operation: 'set parent',
      context: { path: state.file.path },
      hint: 'Convert the image into a new one; its layout leaves no room.',
    });
  }
  for (const { offset, room } of places) await state.space.reserve(offset, offset + room);
  return places;
}
