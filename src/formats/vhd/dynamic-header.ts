/**
 * The dynamic disk header: 1024 bytes that say where the block allocation table is, how large blocks are,
 * and, for differencing disks, who the parent is.
 *
 * Invariant: `decodeHeader` never judges; `judgeHeader` bounds every number before it is used as an
 * offset, a length or an allocation.
 *
 * Deliberately not here: the texts behind the parent locators (parent-locator.ts).
 */
import { isPowerOfTwo, MiB } from '../../base/bytes.js';
import { sealChecksum, storedChecksum, vhdChecksum } from './checksum.js';
import { type DefectPlace, type VhdDefect, vhdError } from './defects.js';
import { cookieOf, NO_OFFSET } from './footer.js';

export const HEADER_BYTES = 1024;
export const SECTOR_BYTES = 512;
const HEADER_COOKIE = 'cxsparse';
const HEADER_VERSION = 0x0001_0000;
const CHECKSUM_AT = 36;
export const PARENT_NAME_AT = 64;
export const PARENT_NAME_BYTES = 512;
export const LOCATORS_AT = 576;
export const LOCATOR_COUNT = 8;
export const LOCATOR_BYTES = 24;
/** Byte offsets of fields within the header. */
export const HEADER_FIELD = {
  dataOffset: 8,
  tableOffset: 16,
  version: 24,
  maxTableEntries: 28,
  blockSize: 32,
  checksum: CHECKSUM_AT,
  parentUniqueId: 40,
  parentTimestamp: 56,
} as const;

/**
 * Largest block accepted. No writer makes more than 2 MiB; 256 MiB is where VHDX ends too, and keeps a
 * sector bitmap at 64 KiB, so that a lying block size can't ask for much memory.
 */
export const MAX_BLOCK_SIZE = 256 * MiB;
/** Most BAT entries accepted: 64 MiB of table; the largest disk of any writer has about one million. */
export const MAX_TABLE_ENTRIES = 16 * 1024 * 1024;

export interface ParentLocatorEntry {
  /** Four characters: `W2ru`, `W2ku`, `MacX`, …; NULs for an unused entry. */
  code: string;
  /** As stored: bytes, or sectors when below 512. */
  dataSpace: number;
  /** Bytes. */
  dataLength: number;
  dataOffset: bigint;
  /** Byte offset of this entry within the header. */
  field: number;
}

/** Source: VHD specification 1.0, "Dynamic Disk Header Format". */
export interface DynamicHeader {
  dataOffset: bigint;
  tableOffset: bigint;
  version: number;
  maxTableEntries: number;
  /** Bytes of data in a block, without its sector bitmap. */
  blockSize: number;
  parentUniqueId: Uint8Array;
  /** Seconds since 2000-01-01 00:00 UTC; advisory. */
  parentTimestamp: number;
  /** 512 bytes of UTF-16BE. */
  parentName: Uint8Array;
  locators: ParentLocatorEntry[];
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function isHeaderCookie(bytes: Uint8Array): boolean {
  return cookieOf(bytes) === HEADER_COOKIE;
}

export function headerChecksumOk(bytes: Uint8Array): boolean {
  return vhdChecksum(bytes, CHECKSUM_AT) === storedChecksum(bytes, CHECKSUM_AT);
}

function decodeLocator(bytes: Uint8Array, field: number): ParentLocatorEntry {
  const view = viewOf(bytes);
  return {
    code: Buffer.from(bytes.subarray(field, field + 4)).toString('latin1'),
    dataSpace: view.getUint32(field + 4),
    dataLength: view.getUint32(field + 8),
    dataOffset: view.getBigUint64(field + 16),
    field,
  };
}

/** Decodes 1024 bytes; any bytes give a result. */
export function decodeHeader(bytes: Uint8Array): DynamicHeader {
  const view = viewOf(bytes);
  const locators: ParentLocatorEntry[] = [];
  for (let index = 0; index < LOCATOR_COUNT; index += 1) {
    locators.push(decodeLocator(bytes, LOCATORS_AT + index * LOCATOR_BYTES));
  }
  return {
    dataOffset: view.getBigUint64(8),
    tableOffset: view.getBigUint64(16),
    version: view.getUint32(24),
    maxTableEntries: view.getUint32(28),
    blockSize: view.getUint32(32),
    parentUniqueId: bytes.slice(40, 56),
    parentTimestamp: view.getUint32(56),
    parentName: bytes.slice(PARENT_NAME_AT, PARENT_NAME_AT + PARENT_NAME_BYTES),
    locators,
  };
}

/** Encodes the header of a new dynamic disk: no parent, reserved bytes zero, checksum right. */
export function encodeDynamicHeader(table: {
  offset: number;
  entries: number;
  blockSize: number;
}): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = viewOf(bytes);
  bytes.set(Buffer.from(HEADER_COOKIE, 'latin1'), 0);
  view.setBigUint64(8, NO_OFFSET);
  view.setBigUint64(16, BigInt(table.offset));
  view.setUint32(24, HEADER_VERSION);
  view.setUint32(28, table.entries);
  view.setUint32(32, table.blockSize);
  sealChecksum(bytes, CHECKSUM_AT);
  return bytes;
}

/** Bytes of a block's sector bitmap, padding included. Source: VHD specification 1.0, "Data Blocks". */
export function bitmapBytes(blockSize: number): number {
  return Math.ceil(Math.ceil(blockSize / SECTOR_BYTES / 8) / SECTOR_BYTES) * SECTOR_BYTES;
}

/** What the header is judged against. Offsets and sizes in bytes. */
export interface HeaderPlace {
  path: string;
  /** Where the header stands. */
  offset: number;
  virtualSize: number;
  /** Where the usable part of the file ends: the footer, or the file's length without one. */
  limit: number;
}

/** The block table as the header describes it, every number checked. */
export interface BlockTable {
  /** Byte offset of the BAT. */
  offset: number;
  /** Entries of the table; at least `blocks`. */
  entries: number;
  /** Blocks of the disk. */
  blocks: number;
  blockSize: number;
  bitmapBytes: number;
}

function refuse(
  place: HeaderPlace,
  field: number,
  defect: VhdDefect,
  message: string,
  code: 'IMAGE_CORRUPT' | 'UNSUPPORTED' = 'IMAGE_CORRUPT',
): never {
  const where: DefectPlace = { path: place.path, offset: place.offset + field };
  throw vhdError(code, defect, message, where);
}

function judgeTableOffset(header: DynamicHeader, place: HeaderPlace): number {
  const field = HEADER_FIELD.tableOffset;
  const { tableOffset } = header;
  if (tableOffset > BigInt(place.limit)) {
    refuse(
      place,
      field,
      'VHD_BAT_OUTSIDE_FILE',
      `the block table is said to be at ${tableOffset}, outside the file`,
    );
  }
  const offset = Number(tableOffset);
  if (offset % SECTOR_BYTES !== 0) {
    refuse(
      place,
      field,
      'VHD_BAT_OFFSET_INVALID',
      `the block table is said to be at ${offset}, which is no sector boundary`,
    );
  }
  const bytes = header.maxTableEntries * 4;
  if (offset + bytes > place.limit) {
    refuse(
      place,
      field,
      'VHD_BAT_OUTSIDE_FILE',
      `the block table (${bytes} bytes at ${offset}) goes beyond the end of the file`,
    );
  }
  const overlapsHeader = offset < place.offset + HEADER_BYTES && offset + bytes > place.offset;
  if (offset < SECTOR_BYTES || overlapsHeader) {
    refuse(
      place,
      field,
      'VHD_BAT_OVERLAPS_METADATA',
      `the block table at ${offset} lies over the footer copy or the header`,
    );
  }
  return offset;
}

/**
 * Checks version, block size and table.
 * @throws IMAGE_CORRUPT, UNSUPPORTED (version, more than 16 Mi entries) with the field's offset
 */
export function judgeHeader(header: DynamicHeader, place: HeaderPlace): BlockTable {
  const { blockSize, maxTableEntries: entries } = header;
  if (header.version !== HEADER_VERSION) {
    const version = `0x${header.version.toString(16).padStart(8, '0')}`;
    refuse(
      place,
      HEADER_FIELD.version,
      'VHD_HEADER_VERSION',
      `dynamic header version ${version} is not supported`,
      'UNSUPPORTED',
    );
  }
  if (!isPowerOfTwo(blockSize) || blockSize < SECTOR_BYTES || blockSize > MAX_BLOCK_SIZE) {
    refuse(
      place,
      HEADER_FIELD.blockSize,
      'VHD_BLOCK_SIZE_INVALID',
      `a block size of ${blockSize} bytes is not a power of two from 512 bytes to 256 MiB`,
    );
  }
  const blocks = Math.ceil(place.virtualSize / blockSize);
  if (entries < blocks) {
    refuse(
      place,
      HEADER_FIELD.maxTableEntries,
      'VHD_BAT_TOO_SMALL',
      `the block table has ${entries} entries, but the disk has ${blocks} blocks`,
    );
  }
  if (entries > MAX_TABLE_ENTRIES) {
    const message = `a block table of ${entries} entries is more than vhdkit handles (${MAX_TABLE_ENTRIES})`;
    refuse(place, HEADER_FIELD.maxTableEntries, 'VHD_BAT_TOO_LARGE', message, 'UNSUPPORTED');
  }
  const offset = judgeTableOffset(header, place);
  return { offset, entries, blocks, blockSize, bitmapBytes: bitmapBytes(blockSize) };
}
