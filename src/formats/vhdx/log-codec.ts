/**
 * Log entries (MS-VHDX 2.3): encoding and decoding of entry headers, descriptors and data sectors.
 *
 * Invariant: pure functions on bytes; whether an entry is valid as a whole (checksum, every sector)
 * is decided in log-scan.ts, because an entry can be as long as the log.
 */
import { getGuid, sealChecksum, setAscii, setGuid, setU64, viewOf } from './binary.js';
import { hasSignature } from './layout.js';

/** The log's unit: entries, descriptors and updates come in these. */
export const LOG_SECTOR = 4096;
export const LOG_HEADER_LENGTH = 64;
export const DESCRIPTOR_LENGTH = 32;
export const LOG_CHECKSUM_AT = 4;
const DESCRIPTORS_IN_FIRST_SECTOR = (LOG_SECTOR - LOG_HEADER_LENGTH) / DESCRIPTOR_LENGTH;
const DESCRIPTORS_PER_SECTOR = LOG_SECTOR / DESCRIPTOR_LENGTH;

export interface LogEntryHeader {
  checksum: number;
  /** Bytes of the whole entry. */
  length: number;
  /** Offset in the log of the first entry of the sequence that ends with this one. */
  tail: number;
  sequence: bigint;
  descriptorCount: number;
  logGuid: string;
  flushedFileOffset: bigint;
  lastFileOffset: bigint;
}

/** One 4 KiB update, or a range of zeros. `offset` is the place in the file. */
export type LogDescriptor =
  | { kind: 'data'; offset: bigint; sequence: bigint; leading: Uint8Array; trailing: Uint8Array }
  | { kind: 'zero'; offset: bigint; sequence: bigint; length: bigint };

/** Sectors that the header and this many descriptors take. */
export function descriptorSectors(count: number): number {
  return 1 + Math.ceil(Math.max(0, count - DESCRIPTORS_IN_FIRST_SECTOR) / DESCRIPTORS_PER_SECTOR);
}

/** Byte offset of a descriptor within its entry: they simply follow the header. */
export function descriptorOffset(index: number): number {
  return LOG_HEADER_LENGTH + index * DESCRIPTOR_LENGTH;
}

export function isEntryStart(bytes: Uint8Array, at: number): boolean {
  return hasSignature(bytes, at, 'loge');
}

/** The header at the start of a sector; undefined without the signature. */
export function decodeEntryHeader(bytes: Uint8Array): LogEntryHeader | undefined {
  if (bytes.length < LOG_HEADER_LENGTH || !isEntryStart(bytes, 0)) return undefined;
  const view = viewOf(bytes);
  return {
    checksum: view.getUint32(LOG_CHECKSUM_AT, true),
    length: view.getUint32(8, true),
    tail: view.getUint32(12, true),
    sequence: view.getBigUint64(16, true),
    descriptorCount: view.getUint32(24, true),
    logGuid: getGuid(bytes, 32),
    flushedFileOffset: view.getBigUint64(48, true),
    lastFileOffset: view.getBigUint64(56, true),
  };
}

/** The descriptor in these 32 bytes; undefined without one of the two signatures. */
export function decodeDescriptor(bytes: Uint8Array): LogDescriptor | undefined {
  if (bytes.length < DESCRIPTOR_LENGTH) return undefined;
  const view = viewOf(bytes);
  const offset = view.getBigUint64(16, true);
  const sequence = view.getBigUint64(24, true);
  if (hasSignature(bytes, 0, 'desc')) {
    return { kind: 'data', offset, sequence, trailing: bytes.slice(4, 8), leading: bytes.slice(8, 16) };
  }
  if (hasSignature(bytes, 0, 'zero')) {
    return { kind: 'zero', offset, sequence, length: view.getBigUint64(8, true) };
  }
  return undefined;
}

/** True when the sector is a data sector of this entry. */
export function isDataSector(bytes: Uint8Array, at: number, sequence: bigint): boolean {
  if (!hasSignature(bytes, at, 'data')) return false;
  const view = viewOf(bytes);
  const stored =
    (BigInt(view.getUint32(at + 4, true)) << 32n) | BigInt(view.getUint32(at + LOG_SECTOR - 4, true));
  return stored === sequence;
}

/** The 4096 bytes of an update, put together from its descriptor and data sector. */
export function restorePage(descriptor: Uint8Array, sector: Uint8Array, page: Uint8Array): void {
  page.set(sector.subarray(8, LOG_SECTOR - 4), 8);
  page.set(descriptor.subarray(8, 16), 0);
  page.set(descriptor.subarray(4, 8), LOG_SECTOR - 4);
}

/** What a new entry is to change. */
export type LogUpdate = { offset: number; page: Uint8Array } | { offset: number; zeros: number };

export interface NewLogEntry {
  logGuid: string;
  sequence: bigint;
  tail: number;
  flushedFileOffset: number | bigint;
  lastFileOffset: number | bigint;
  updates: readonly LogUpdate[];
}

/** The bytes of an entry, checksum included; a multiple of 4096. Pages are 4096 bytes each. */
export function encodeLogEntry(entry: NewLogEntry): Uint8Array {
  const { updates } = entry;
  const pages = updates.filter((update) => 'page' in update);
  const first = descriptorSectors(updates.length);
  const bytes = new Uint8Array((first + pages.length) * LOG_SECTOR);
  const view = viewOf(bytes);
  setAscii(bytes, 0, 'loge');
  view.setUint32(8, bytes.length, true);
  view.setUint32(12, entry.tail, true);
  setU64(view, 16, entry.sequence);
  view.setUint32(24, updates.length, true);
  setGuid(bytes, 32, entry.logGuid);
  setU64(view, 48, entry.flushedFileOffset);
  setU64(view, 56, entry.lastFileOffset);
  let sector = first * LOG_SECTOR;
  updates.forEach((update, index) => {
    const at = descriptorOffset(index);
    setAscii(bytes, at, 'page' in update ? 'desc' : 'zero');
    setU64(view, at + 16, update.offset);
    setU64(view, at + 24, entry.sequence);
    if ('zeros' in update) {
      setU64(view, at + 8, update.zeros);
    } else {
      bytes.set(update.page.subarray(LOG_SECTOR - 4), at + 4);
      bytes.set(update.page.subarray(0, 8), at + 8);
      encodeDataSector(bytes.subarray(sector, sector + LOG_SECTOR), update.page, entry.sequence);
      sector += LOG_SECTOR;
    }
  });
  return sealChecksum(bytes, LOG_CHECKSUM_AT);
}

function encodeDataSector(sector: Uint8Array, page: Uint8Array, sequence: bigint): void {
  const view = viewOf(sector);
  sector.set(page.subarray(8, LOG_SECTOR - 4), 8);
  setAscii(sector, 0, 'data');
  view.setUint32(4, Number(sequence >> 32n), true);
  view.setUint32(LOG_SECTOR - 4, Number(sequence & 0xffffffffn), true);
}
