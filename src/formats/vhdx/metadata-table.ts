/**
 * The metadata table (MS-VHDX 2.6.1): which items there are and where; and the layout of a new region.
 *
 * Invariant: entries that passed `checkMetadataEntries` are unique, inside the region behind the table,
 * at most 1 MiB long, and free of overlap; nothing that must be understood is unknown.
 */
import type { Finding } from '../finding.js';
import { getGuid, setAscii, setGuid, viewOf } from './binary.js';
import { vhdxCorrupt, vhdxFinding, vhdxUnsupported } from './defects.js';
import {
  hasSignature,
  INCOMPLETE_FILE_GUID,
  ITEM_GUID,
  KNOWN_EXTRA_ITEMS,
  MAX_METADATA_ITEM_LENGTH,
  MAX_TABLE_ENTRIES,
  MAX_USER_ITEMS,
  METADATA_TABLE_LENGTH,
} from './layout.js';
import type { OwnedRange } from './region-table.js';

export interface MetadataEntry {
  guid: string;
  /** Bytes from the start of the region. */
  offset: number;
  length: number;
  isUser: boolean;
  isVirtualDisk: boolean;
  isRequired: boolean;
  /** Where the entry itself is in the file, for messages. */
  fileOffset: number;
  reservedBits: boolean;
}

/** An item of a new region. */
export interface NewItem {
  guid: string;
  bytes: Uint8Array;
  isUser?: boolean;
  isVirtualDisk: boolean;
  isRequired: boolean;
}

const TABLE_HEADER = 32;
const ENTRY = 32;
/** Where an entry says where its item is. */
export const ITEM_OFFSET_AT = 16;
export const ITEM_LENGTH_AT = 20;

/**
 * Decodes a table of 64 KiB.
 * @throws IMAGE_CORRUPT (VHDX_METADATA_TABLE_INVALID)
 */
export function decodeMetadataTable(bytes: Uint8Array, region: OwnedRange, path: string): MetadataEntry[] {
  if (!hasSignature(bytes, 0, 'metadata')) {
    const message = 'the metadata table has no signature';
    throw vhdxCorrupt('VHDX_METADATA_TABLE_INVALID', message, path, region.offset);
  }
  const view = viewOf(bytes);
  const count = view.getUint16(10, true);
  if (count > MAX_TABLE_ENTRIES) {
    const message = `the metadata table claims ${count} entries`;
    throw vhdxCorrupt('VHDX_METADATA_TABLE_INVALID', message, path, region.offset + 10);
  }
  const entries: MetadataEntry[] = [];
  for (let index = 0; index < count; index += 1) {
    const at = TABLE_HEADER + index * ENTRY;
    const flags = view.getUint32(at + 24, true);
    entries.push({
      guid: getGuid(bytes, at),
      offset: view.getUint32(at + ITEM_OFFSET_AT, true),
      length: view.getUint32(at + ITEM_LENGTH_AT, true),
      isUser: (flags & 1) !== 0,
      isVirtualDisk: (flags & 2) !== 0,
      isRequired: (flags & 4) !== 0,
      fileOffset: region.offset + at,
      reservedBits: flags >>> 3 !== 0,
    });
  }
  return entries;
}

const KNOWN_ITEMS: ReadonlySet<string> = new Set([...Object.values(ITEM_GUID), ...KNOWN_EXTRA_ITEMS.keys()]);

/**
 * Checks all entries against the region and each other.
 * @throws IMAGE_CORRUPT, UNSUPPORTED
 */
export function checkMetadataEntries(
  entries: readonly MetadataEntry[],
  region: OwnedRange,
  path: string,
  findings: Finding[],
): void {
  const seen = new Set<string>();
  let users = 0;
  for (const entry of entries) {
    refuseUnknown(entry, path);
    const key = `${entry.guid}/${entry.isUser}`;
    if (seen.has(key)) {
      const message = `metadata item ${entry.guid} is listed twice`;
      throw vhdxCorrupt('VHDX_METADATA_ITEM_DUPLICATE', message, path, entry.fileOffset);
    }
    seen.add(key);
    checkPlace(entry, region, path);
    if (entry.reservedBits) {
      const message = `reserved flags of metadata item ${entry.guid} are set`;
      findings.push(vhdxFinding('VHDX_METADATA_RESERVED_BITS', 'warning', message, entry.fileOffset + 24));
    }
    if (entry.isUser) users += 1;
  }
  if (users > MAX_USER_ITEMS) {
    const message = `the metadata table claims ${users} user items`;
    throw vhdxCorrupt('VHDX_METADATA_TABLE_INVALID', message, path, region.offset + 10);
  }
  refuseOverlaps(entries, path);
}

function refuseUnknown(entry: MetadataEntry, path: string): void {
  if (entry.guid === INCOMPLETE_FILE_GUID) {
    throw vhdxUnsupported(
      'VHDX_INCOMPLETE_FILE',
      'the image carries the incomplete-file marker: its creation was not finished',
      path,
      entry.fileOffset,
      'Create or copy the image again.',
    );
  }
  if (!entry.isRequired || (KNOWN_ITEMS.has(entry.guid) && !entry.isUser)) return;
  throw vhdxUnsupported(
    'VHDX_METADATA_UNKNOWN_REQUIRED',
    `the image needs a metadata item of unknown kind ${entry.guid}`,
    path,
    entry.fileOffset,
    'The image uses a feature newer than this program; open it with the program that wrote it.',
  );
}

function checkPlace(entry: MetadataEntry, region: OwnedRange, path: string): void {
  if (entry.length === 0 && entry.offset === 0) return;
  const inside =
    entry.offset >= METADATA_TABLE_LENGTH &&
    entry.length <= MAX_METADATA_ITEM_LENGTH &&
    entry.offset + entry.length <= region.length;
  if (inside) return;
  const message = `metadata item ${entry.guid} (offset ${entry.offset}, length ${entry.length}) is not inside its region`;
  throw vhdxCorrupt('VHDX_METADATA_ITEM_INVALID', message, path, entry.fileOffset);
}

function refuseOverlaps(entries: readonly MetadataEntry[], path: string): void {
  const sorted = entries.filter((entry) => entry.length > 0).sort((a, b) => a.offset - b.offset);
  let previous: MetadataEntry | undefined;
  for (const entry of sorted) {
    if (previous && previous.offset + previous.length > entry.offset) {
      const message = `metadata items ${previous.guid} and ${entry.guid} overlap`;
      throw vhdxCorrupt('VHDX_METADATA_ITEM_INVALID', message, path, entry.fileOffset);
    }
    previous = entry;
  }
}

/**
 * Table and items of a new region: items one after another, eight bytes aligned, from 64 KiB on.
 * The rest of the region stays zero.
 */
export function encodeMetadata(items: readonly NewItem[]): Uint8Array {
  const length = items.reduce((sum, item) => sum + alignItem(item.bytes.length), METADATA_TABLE_LENGTH);
  const bytes = new Uint8Array(length);
  const view = viewOf(bytes);
  setAscii(bytes, 0, 'metadata');
  view.setUint16(10, items.length, true);
  let next = METADATA_TABLE_LENGTH;
  items.forEach((item, index) => {
    const at = TABLE_HEADER + index * ENTRY;
    setGuid(bytes, at, item.guid);
    view.setUint32(at + ITEM_OFFSET_AT, item.bytes.length === 0 ? 0 : next, true);
    view.setUint32(at + ITEM_LENGTH_AT, item.bytes.length, true);
    const flags = (item.isUser ? 1 : 0) | (item.isVirtualDisk ? 2 : 0) | (item.isRequired ? 4 : 0);
    view.setUint32(at + 24, flags, true);
    bytes.set(item.bytes, next);
    next += alignItem(item.bytes.length);
  });
  return bytes;
}

function alignItem(length: number): number {
  return Math.ceil(length / 8) * 8;
}
