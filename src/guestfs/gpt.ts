/**
 * The GUID partition table: header and entries, decoded and encoded. Pure.
 *
 * Invariants: a header is a result only when its signature, its CRC-32 and every bound holds, so that its
 * numbers may be used as offsets and lengths; an array is one only when its CRC-32 fits too. Sizes are
 * bounded by MAX_ARRAY_BYTES before anything is allocated. LBAs count sectors of the size that the caller
 * names; nothing in the structures says which size that is, only where they lie.
 *
 * Not here: finding the tables on a disk (partition-table.ts) and writing them for other sectors
 * (resector-gpt.ts).
 */
import { crc32 } from 'node:zlib';
import { isPowerOfTwo, KiB, toSafeNumber } from '../base/bytes.js';
import { guidFromMixedEndian } from '../base/guid.js';

/** UEFI specification 2.10, table 5-5: bytes that the CRC covers in every version so far. */
export const GPT_HEADER_BYTES = 92;
export const GPT_HEADER_LBA = 1;
const SIGNATURE = 'EFI PART';
const REVISION = 0x0001_0000;
const MIN_ENTRY_BYTES = 128;
const MAX_ENTRY_BYTES = 4 * KiB;
const MAX_ENTRIES = 1024;
/** Ours: the largest array accepted. Usual is 16 KiB (128 entries of 128 bytes). */
export const MAX_ARRAY_BYTES = MAX_ENTRIES * MAX_ENTRY_BYTES;
/** UEFI specification 2.10, 5.3.1: room that is kept for the array, however few entries it has. */
export const MIN_ARRAY_ROOM = 16 * KiB;

const AT = {
  revision: 8,
  headerSize: 12,
  crc: 16,
  reserved: 20,
  myLba: 24,
  alternateLba: 32,
  firstUsable: 40,
  lastUsable: 48,
  diskGuid: 56,
  entriesLba: 72,
  count: 80,
  entrySize: 84,
  entriesCrc: 88,
} as const;

const ENTRY = { uniqueGuid: 16, first: 32, last: 40, attributes: 48, name: 56, nameEnd: 128 } as const;

/** A GPT header (UEFI specification 2.10, 5.3.2). LBAs and counts of sectors are plain numbers. */
export interface GptHeader {
  myLba: number;
  alternateLba: number;
  firstUsable: number;
  /** Inclusive. */
  lastUsable: number;
  /** Sixteen bytes, as stored. */
  diskGuid: Uint8Array;
  entriesLba: number;
  count: number;
  entrySize: number;
  entriesCrc: number;
}

/** A used entry of the array. */
export interface GptPartition {
  /** From 1, as people and tools count. */
  number: number;
  typeGuid: string;
  name: string;
  first: number;
  /** Inclusive. */
  last: number;
}

/** What is wrong, in words that follow "the GPT header …". */
export interface GptDefect {
  defect: string;
}

export function isDefect(value: object): value is GptDefect {
  return 'defect' in value;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** True when the sector claims to be a GPT header. */
export function hasGptSignature(sector: Uint8Array): boolean {
  return Buffer.from(sector.subarray(0, SIGNATURE.length)).toString('latin1') === SIGNATURE;
}

function headerCrc(sector: Uint8Array, headerSize: number): number {
  const covered = Uint8Array.from(sector.subarray(0, headerSize));
  covered.fill(0, AT.crc, AT.crc + 4);
  return crc32(covered) >>> 0;
}

/** Bytes of the entry array. */
export function arrayBytes(header: Pick<GptHeader, 'count' | 'entrySize'>): number {
  return header.count * header.entrySize;
}

/** Sectors that the array takes. */
export function arraySectors(header: Pick<GptHeader, 'count' | 'entrySize'>, sectorSize: number): number {
  return Math.ceil(arrayBytes(header) / sectorSize);
}

/**
 * Decodes the header in one sector, whatever the sector holds.
 * @param lba where the sector was read: the header must say the same
 */
export function decodeGptHeader(sector: Uint8Array, lba: number): GptHeader | GptDefect {
  if (sector.length < GPT_HEADER_BYTES || !hasGptSignature(sector)) return { defect: 'has no signature' };
  const view = viewOf(sector);
  const headerSize = view.getUint32(AT.headerSize, true);
  if (headerSize < GPT_HEADER_BYTES || headerSize > sector.length) {
    return { defect: `says that it has ${headerSize} bytes` };
  }
  if (headerCrc(sector, headerSize) !== view.getUint32(AT.crc, true))
    return { defect: 'has a wrong checksum' };
  const revision = view.getUint32(AT.revision, true);
  if (revision >>> 16 !== REVISION >>> 16) return { defect: `has the unknown revision ${revision}` };
  const u64 = (at: number): number => toSafeNumber(view.getBigUint64(at, true)) ?? Number.NaN;
  const header: GptHeader = {
    myLba: u64(AT.myLba),
    alternateLba: u64(AT.alternateLba),
    firstUsable: u64(AT.firstUsable),
    lastUsable: u64(AT.lastUsable),
    diskGuid: sector.slice(AT.diskGuid, AT.diskGuid + 16),
    entriesLba: u64(AT.entriesLba),
    count: view.getUint32(AT.count, true),
    entrySize: view.getUint32(AT.entrySize, true),
    entriesCrc: view.getUint32(AT.entriesCrc, true),
  };
  const defect = headerDefect(header, lba, sector.length);
  return defect === undefined ? header : { defect };
}

/** What contradicts itself in a header whose checksum is right. */
function headerDefect(header: GptHeader, lba: number, sectorSize: number): string | undefined {
  const { count, entrySize, entriesLba, firstUsable, lastUsable, alternateLba } = header;
  if (header.myLba !== lba) return `belongs to sector ${header.myLba}, not ${lba}`;
  if (count < 1 || count > MAX_ENTRIES) return `speaks of ${count} entries`;
  if (!isPowerOfTwo(entrySize) || entrySize < MIN_ENTRY_BYTES || entrySize > MAX_ENTRY_BYTES) {
    return `speaks of entries of ${entrySize} bytes`;
  }
  const numbers = [alternateLba, firstUsable, lastUsable, entriesLba];
  // Products with the sector size must stay exact.
  if (numbers.some((value) => !(value <= Number.MAX_SAFE_INTEGER / sectorSize - 1))) {
    return 'has sector numbers that no disk has';
  }
  if (alternateLba === lba) return 'names itself as its copy';
  if (firstUsable > lastUsable || firstUsable <= GPT_HEADER_LBA) {
    return `has no usable sectors (${firstUsable} to ${lastUsable})`;
  }
  const arrayEnd = entriesLba + arraySectors(header, sectorSize);
  if (entriesLba < 1 || (entriesLba <= lba && lba < arrayEnd)) return 'puts its entries over a header';
  if (entriesLba <= lastUsable && arrayEnd > firstUsable) return 'puts its entries among the partitions';
  if (lba >= firstUsable && lba <= lastUsable) return 'lies among the partitions';
  return undefined;
}

/** A sector of `sectorSize` bytes with the header, checksum included. */
export function encodeGptHeader(header: GptHeader, sectorSize: number): Uint8Array {
  const sector = new Uint8Array(sectorSize);
  const view = viewOf(sector);
  sector.set(Buffer.from(SIGNATURE, 'latin1'));
  view.setUint32(AT.revision, REVISION, true);
  view.setUint32(AT.headerSize, GPT_HEADER_BYTES, true);
  view.setBigUint64(AT.myLba, BigInt(header.myLba), true);
  view.setBigUint64(AT.alternateLba, BigInt(header.alternateLba), true);
  view.setBigUint64(AT.firstUsable, BigInt(header.firstUsable), true);
  view.setBigUint64(AT.lastUsable, BigInt(header.lastUsable), true);
  sector.set(header.diskGuid, AT.diskGuid);
  view.setBigUint64(AT.entriesLba, BigInt(header.entriesLba), true);
  view.setUint32(AT.count, header.count, true);
  view.setUint32(AT.entrySize, header.entrySize, true);
  view.setUint32(AT.entriesCrc, header.entriesCrc, true);
  view.setUint32(AT.crc, headerCrc(sector, GPT_HEADER_BYTES), true);
  return sector;
}

/** CRC-32 of an entry array. */
export function arrayCrc(array: Uint8Array): number {
  return crc32(array) >>> 0;
}

function decodeEntry(entry: Uint8Array, number: number): GptPartition | undefined {
  if (entry.subarray(0, 16).every((byte) => byte === 0)) return undefined;
  const view = viewOf(entry);
  const name = Buffer.from(entry.subarray(ENTRY.name, ENTRY.nameEnd)).toString('utf16le');
  return {
    number,
    typeGuid: guidFromMixedEndian(entry.slice(0, 16)),
    name: name.split('\0', 1)[0] ?? '',
    first: toSafeNumber(view.getBigUint64(ENTRY.first, true)) ?? Number.NaN,
    last: toSafeNumber(view.getBigUint64(ENTRY.last, true)) ?? Number.NaN,
  };
}

/** The partitions of an array, in its order; or what is wrong with it. `array` has `arrayBytes(header)` bytes. */
export function decodeGptArray(array: Uint8Array, header: GptHeader): GptPartition[] | GptDefect {
  if (arrayCrc(array) !== header.entriesCrc) return { defect: 'has entries with a wrong checksum' };
  const partitions: GptPartition[] = [];
  for (let index = 0; index < header.count; index += 1) {
    const at = index * header.entrySize;
    const partition = decodeEntry(array.subarray(at, at + header.entrySize), index + 1);
    if (!partition) continue;
    const { first, last, number } = partition;
    if (!(first >= header.firstUsable && first <= last && last <= header.lastUsable)) {
      return { defect: `has a partition ${number} outside the usable sectors` };
    }
    partitions.push(partition);
  }
  const sorted = [...partitions].sort((a, b) => a.first - b.first);
  for (const [index, partition] of sorted.entries()) {
    const before = sorted[index - 1];
    if (before && before.last >= partition.first) {
      return { defect: `has partitions that overlap (${before.number} and ${partition.number})` };
    }
  }
  return partitions;
}

/** A copy of the array with other first and last sectors; everything else in the entries stays. */
export function moveGptEntries(
  array: Uint8Array,
  entrySize: number,
  moved: Iterable<{ number: number; first: number; last: number }>,
): Uint8Array {
  const out = Uint8Array.from(array);
  const view = viewOf(out);
  for (const { number, first, last } of moved) {
    const at = (number - 1) * entrySize;
    view.setBigUint64(at + ENTRY.first, BigInt(first), true);
    view.setBigUint64(at + ENTRY.last, BigInt(last), true);
  }
  return out;
}
