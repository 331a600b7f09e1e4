/**
 * How a child's header names its parent: name, time, and locators in the notations that other programs read.
 *
 * Invariant: whoever reads any one of them finds the same file. Windows reads W2ru and W2ku, XenServer W2ru and
 * MacX, Xen Orchestra the parent name relative to the child.
 *
 * Deliberately not here: where in the file locators are put (child-layout.ts, header-update.ts).
 */
import { roundUp } from '../../base/bytes.js';
import { guidToBytes } from '../../base/guid.js';
import type { NewParentLink } from '../editable-image.js';
import {
  HEADER_FIELD,
  LOCATOR_BYTES,
  LOCATOR_COUNT,
  LOCATORS_AT,
  PARENT_NAME_AT,
  PARENT_NAME_BYTES,
  SECTOR_BYTES,
} from './dynamic-header.js';
import { vhdTimestamp } from './timestamp.js';

/** What is written behind a locator. */
export interface LocatorText {
  /** Four characters. */
  code: string;
  bytes: Uint8Array;
}

/** A locator with its place in the file. Bytes. */
export interface PlacedLocator extends LocatorText {
  offset: number;
  room: number;
}

const WINDOWS_PATH = /^(?:[a-zA-Z]:[\\/]|\\\\)/;

function utf16Le(text: string): Uint8Array {
  return Buffer.from(text, 'utf16le');
}

function baseName(path: string, windows: boolean): string {
  return path.split(windows ? /[\\/]/ : '/').at(-1) ?? path;
}

/** `.\name` or `..\folder\name`: relative to the child's folder, in the notation of Windows. */
function windowsRelative(relativePath: string): string {
  const path = relativePath.replaceAll('/', '\\');
  return path.startsWith('..\\') || path.startsWith('.\\') ? path : `.\\${path}`;
}

function fileUrl(absolutePath: string): string {
  const path = absolutePath.split('/').map(encodeURIComponent).join('/');
  return `file://${path}`;
}

/**
 * The locators of a link. A path of a POSIX system is put into W2ku with its slashes turned: XenServer turns
 * them back, and to Windows it is a path from the root of a drive.
 */
export function locatorTexts({ absolutePath, relativePath }: NewParentLink): LocatorText[] {
  const texts: LocatorText[] = [];
  if (relativePath !== undefined) {
    texts.push({ code: 'W2ru', bytes: utf16Le(windowsRelative(relativePath)) });
  }
  texts.push({ code: 'W2ku', bytes: utf16Le(absolutePath.replaceAll('/', '\\')) });
  if (absolutePath.startsWith('/')) {
    texts.push({ code: 'MacX', bytes: Buffer.from(fileUrl(absolutePath), 'utf8') });
  }
  return texts;
}

/**
 * The parent name: 512 bytes of UTF-16BE. Windows puts the complete path there; where paths are POSIX it is
 * the way from the child, as the programs of that world expect. A path that does not fit leaves its last part.
 */
export function parentName({ absolutePath, relativePath }: NewParentLink): Uint8Array {
  const windows = WINDOWS_PATH.test(absolutePath);
  const path = windows ? absolutePath : (relativePath ?? absolutePath);
  const room = PARENT_NAME_BYTES / 2 - 1;
  const name = path.length <= room ? path : baseName(path, windows).slice(0, room);
  const bytes = new Uint8Array(PARENT_NAME_BYTES);
  bytes.set(Buffer.from(name, 'utf16le').swap16());
  return bytes;
}

/** Bytes reserved for a locator's text at least. */
export function locatorRoom({ bytes }: LocatorText): number {
  return roundUp(bytes.length, SECTOR_BYTES);
}

/** Writes id, time and name of a parent into a header of 1024 bytes. The checksum is for later. */
export function writeParent(header: Uint8Array, link: NewParentLink): void {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  header.set(guidToBytes(link.ids[0]), HEADER_FIELD.parentUniqueId);
  view.setUint32(HEADER_FIELD.parentTimestamp, vhdTimestamp(link.modified));
  header.set(parentName(link), PARENT_NAME_AT);
}

/**
 * Writes locators into a header of 1024 bytes; earlier ones go. The checksum is for later.
 * Source: VHD specification 1.0, "Parent Locator Entry". The data space is in bytes: the specification's text
 * says sectors, but all writers that matter store bytes.
 */
export function writeLocators(header: Uint8Array, locators: readonly PlacedLocator[]): void {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  header.fill(0, LOCATORS_AT, LOCATORS_AT + LOCATOR_COUNT * LOCATOR_BYTES);
  for (const [index, { code, bytes, offset, room }] of locators.entries()) {
    const at = LOCATORS_AT + index * LOCATOR_BYTES;
    header.set(Buffer.from(code, 'latin1').subarray(0, 4), at);
    view.setUint32(at + 4, room);
    view.setUint32(at + 8, bytes.length);
    view.setBigUint64(at + 16, BigInt(offset));
  }
}
