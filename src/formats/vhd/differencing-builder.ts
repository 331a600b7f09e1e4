/**
 * Lays out a new differencing VHD.
 *
 * Invariants: the layout is that of children made by Windows: locators and table before the first block (some
 * readers can't do with another order), payload at multiples of 4 KiB. Everything beyond an empty child is
 * writing into an existing image, so that is what the new image is given to.
 */
import { roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import { guidFromBytes, NIL_GUID } from '../../base/guid.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { DiskImage } from '../disk-image.js';
import type { NewParentLink } from '../editable-image.js';
import { ALIGNMENT } from './block-slots.js';
import { sealChecksum } from './checksum.js';
import { encodeDynamicHeader, HEADER_FIELD, SECTOR_BYTES } from './dynamic-header.js';
import { EditableSparseVhd } from './editable-sparse.js';
import { encodeFooter, FOOTER_BYTES, HEADER_AFTER_FOOTER, type VhdFooter } from './footer.js';
import {
  type LocatorText,
  locatorRoom,
  locatorTexts,
  type PlacedLocator,
  writeLocators,
  writeParent,
} from './parent-fields.js';
import { readFooter, readSparse } from './structures.js';

/** Table entries written at a time. */
const PAGE_BYTES = 64 * 1024;
/** Where Windows has the first locator's text, and what it reserves for the other one. */
const FIRST_LOCATOR = 4096;
const ABSOLUTE_ROOM = 4096;
const RELATIVE_ROOM = 64 * 1024;
/** Between header and first locator there is room for a short URL. */
const URL_AT = 2048;

interface ChildLayout {
  tableOffset: number;
  locators: PlacedLocator[];
  /** End of table and locators. */
  end: number;
}

/**
 * Where a child's structures go: absolute path at 4096, table behind it, relative path behind that with room
 * for a longer one. Measured on children made by Windows 8 and 10.
 */
function layOut(texts: readonly LocatorText[], entries: number): ChildLayout {
  const locators: PlacedLocator[] = [];
  let end = FIRST_LOCATOR;
  const place = (code: LocatorText['code'], smallest: number): void => {
    const text = texts.find((each) => each.code === code);
    if (!text) return;
    const room = Math.max(smallest, roundUp(locatorRoom(text), ALIGNMENT));
    locators.push({ ...text, offset: end, room });
    end += room;
  };
  place('W2ku', ABSOLUTE_ROOM);
  const tableOffset = end;
  end = roundUp(tableOffset + roundUp(entries * 4, SECTOR_BYTES), ALIGNMENT);
  place('W2ru', RELATIVE_ROOM);
  const url = texts.find(({ code }) => code === 'MacX');
  if (url && locatorRoom(url) <= FIRST_LOCATOR - URL_AT) {
    locators.push({ ...url, offset: URL_AT, room: FIRST_LOCATOR - URL_AT });
  } else place('MacX', ALIGNMENT);
  return { tableOffset, locators, end };
}

function judgeParent(
  file: RandomAccessFile,
  link: NewParentLink | undefined,
  footer: VhdFooter,
): NewParentLink {
  const refuse = (message: string): never => {
    throw new VhdkitError('INVALID_ARGUMENT', `${file.path}: ${message}`, {
      operation: 'create VHD',
      context: { path: file.path },
      hint: 'Name the parent whose differences the image is to hold.',
    });
  };
  if (!link) return refuse('A differencing VHD needs a parent');
  if (link.ids[0] === NIL_GUID || link.ids[0] === guidFromBytes(footer.uniqueId)) {
    return refuse('The parent has no id of its own');
  }
  return link;
}

async function writeEmptyTable(file: RandomAccessFile, offset: number, length: number): Promise<void> {
  const page = new Uint8Array(Math.min(PAGE_BYTES, length)).fill(0xff);
  for (let at = 0; at < length; at += page.length) {
    await file.write(page.subarray(0, Math.min(page.length, length - at)), offset + at);
  }
}

/**
 * An empty child of `link` in an empty file.
 * @throws INVALID_ARGUMENT without a parent, IO_FAILED
 */
export async function newDifferencing(
  file: RandomAccessFile,
  footer: VhdFooter,
  blockSize: number,
  parent: NewParentLink | undefined,
): Promise<DiskImage> {
  const link = judgeParent(file, parent, footer);
  const entries = Math.ceil(Number(footer.currentSize) / blockSize);
  const { tableOffset, locators, end } = layOut(locatorTexts(link), entries);
  const header = encodeDynamicHeader({ offset: tableOffset, entries, blockSize });
  writeParent(header, link);
  writeLocators(header, locators);
  sealChecksum(header, HEADER_FIELD.checksum);
  const footerBytes = encodeFooter(footer);
  await file.write(footerBytes, 0);
  await file.write(header, HEADER_AFTER_FOOTER);
  for (const { bytes, offset } of locators) await file.write(bytes, offset);
  await writeEmptyTable(file, tableOffset, roundUp(entries * 4, SECTOR_BYTES));
  await file.write(footerBytes, roundUp(end, ALIGNMENT) + ALIGNMENT - FOOTER_BYTES);
  return openNew(file);
}

/** A child that an interrupted run left, ready to be written to. @throws IMAGE_CORRUPT, IO_FAILED */
export async function openNew(file: RandomAccessFile): Promise<DiskImage> {
  return EditableSparseVhd.of(await readSparse(await readFooter(file, {})));
}
