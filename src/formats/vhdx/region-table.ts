/**
 * The region table (MS-VHDX 2.2.3): where the BAT and the metadata are.
 *
 * Invariant: regions handed out lie inside the file on 1 MiB boundaries and overlap neither each other
 * nor the log. Regions are known by GUID; the `required` flag only decides about unknown ones, because
 * some writers leave it clear for the two known ones.
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { Finding } from '../finding.js';
import {
  checksumWithout,
  getGuid,
  getU64,
  sealChecksum,
  setAscii,
  setGuid,
  setU64,
  viewOf,
} from './binary.js';
import { vhdxCorrupt, vhdxFinding, vhdxUnsupported } from './defects.js';
import {
  HEADER_SECTION_END,
  hasSignature,
  MAX_BAT_LENGTH,
  MAX_METADATA_REGION_LENGTH,
  MAX_TABLE_ENTRIES,
  PLACEMENT_UNIT,
  REGION_GUID,
  REGION_TABLE_LENGTH,
  REGION_TABLE_OFFSETS,
} from './layout.js';

export interface RegionEntry {
  guid: string;
  /** Bytes; undefined when the stored value is no safe integer. */
  offset: number | undefined;
  /** Bytes. */
  length: number;
  required: boolean;
}

/** A byte range of the file that something owns. */
export interface OwnedRange {
  name: string;
  offset: number;
  length: number;
}

/** Ranges that do not overlap, sorted for quick look-up. */
export class OwnedRanges {
  readonly #sorted: readonly OwnedRange[];

  constructor(ranges: readonly OwnedRange[]) {
    this.#sorted = [...ranges].sort((a, b) => a.offset - b.offset);
  }

  /** The first range that `[start, end)` touches. */
  find(start: number, end: number): OwnedRange | undefined {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const range = this.#sorted[middle];
      if (range && range.offset + range.length > start) high = middle;
      else low = middle + 1;
    }
    const found = this.#sorted[low];
    return found && found.offset < end ? found : undefined;
  }

  [Symbol.iterator](): Iterator<OwnedRange> {
    return this.#sorted[Symbol.iterator]();
  }
}

export interface Regions {
  bat: OwnedRange;
  metadata: OwnedRange;
  /** Every region, unknown optional ones too: their space is occupied. */
  all: OwnedRange[];
  findings: Finding[];
}

const TABLE_HEADER = 16;
const ENTRY = 32;
const CHECKSUM_AT = 4;

/** The entries of a table of 64 KiB; undefined when signature, checksum or count is wrong. */
export function decodeRegionTable(bytes: Uint8Array): RegionEntry[] | undefined {
  if (bytes.length < REGION_TABLE_LENGTH || !hasSignature(bytes, 0, 'regi')) return undefined;
  const view = viewOf(bytes);
  const count = view.getUint32(8, true);
  if (count > MAX_TABLE_ENTRIES) return undefined;
  const table = bytes.subarray(0, REGION_TABLE_LENGTH);
  if (view.getUint32(CHECKSUM_AT, true) !== checksumWithout(table, CHECKSUM_AT)) return undefined;
  const entries: RegionEntry[] = [];
  for (let index = 0; index < count; index += 1) {
    const at = TABLE_HEADER + index * ENTRY;
    entries.push({
      guid: getGuid(bytes, at),
      offset: getU64(view, at + 16),
      length: view.getUint32(at + 24, true),
      required: (view.getUint32(at + 28, true) & 1) === 1,
    });
  }
  return entries;
}

/** The 64 KiB of a table, checksum included. */
export function encodeRegionTable(entries: readonly RegionEntry[]): Uint8Array {
  const bytes = new Uint8Array(REGION_TABLE_LENGTH);
  const view = viewOf(bytes);
  setAscii(bytes, 0, 'regi');
  view.setUint32(8, entries.length, true);
  entries.forEach((entry, index) => {
    const at = TABLE_HEADER + index * ENTRY;
    setGuid(bytes, at, entry.guid);
    setU64(view, at + 16, entry.offset ?? 0);
    view.setUint32(at + 24, entry.length, true);
    view.setUint32(at + 28, entry.required ? 1 : 0, true);
  });
  return sealChecksum(bytes, CHECKSUM_AT);
}

/**
 * Both copies of the table with one region moved, as they are to be written.
 * @throws IMAGE_CORRUPT (VHDX_REGION_TABLE_INVALID)
 */
export async function movedRegionTable(
  file: RandomAccessFile,
  guid: string,
  place: { offset: number; length: number },
): Promise<Uint8Array> {
  const { entries } = await readTable(file, []);
  return encodeRegionTable(entries.map((entry) => (entry.guid === guid ? { ...entry, ...place } : entry)));
}

/**
 * Reads the first valid table copy and checks its regions.
 * @param file the image as seen after log replay
 * @param log the log's place, which no region may touch
 * @throws IMAGE_CORRUPT, UNSUPPORTED (an unknown region that must be understood), IO_FAILED
 */
export async function readRegions(file: RandomAccessFile, log: OwnedRange | undefined): Promise<Regions> {
  const findings: Finding[] = [];
  const { entries, tableOffset } = await readTable(file, findings);
  const all: OwnedRange[] = [];
  const named = new Map<string, OwnedRange>();
  entries.forEach((entry, index) => {
    const at = tableOffset + TABLE_HEADER + index * ENTRY;
    if (named.has(entry.guid)) {
      throw vhdxCorrupt('VHDX_REGION_DUPLICATE', `region ${entry.guid} is listed twice`, file.path, at);
    }
    const region = checkRegion(entry, at, file);
    named.set(entry.guid, region);
    all.push(region);
  });
  refuseOverlaps(log ? [...all, log] : all, file.path, tableOffset);
  const bat = named.get(REGION_GUID.bat);
  const metadata = named.get(REGION_GUID.metadata);
  if (!bat || !metadata) {
    const which = bat ? 'metadata' : 'BAT';
    throw vhdxCorrupt('VHDX_REGION_MISSING', `the ${which} region is not listed`, file.path, tableOffset);
  }
  return { bat, metadata, all, findings };
}

interface ValidTable {
  entries: RegionEntry[];
  tableOffset: number;
}

async function readTable(file: RandomAccessFile, findings: Finding[]): Promise<ValidTable> {
  let chosen: (ValidTable & { bytes: Uint8Array }) | undefined;
  for (const tableOffset of REGION_TABLE_OFFSETS) {
    const buffer = new Uint8Array(REGION_TABLE_LENGTH);
    const bytes = buffer.subarray(0, await file.read(buffer, tableOffset));
    const entries = decodeRegionTable(bytes);
    if (!entries) {
      const message = 'this region table copy is damaged; the other one is used';
      findings.push(vhdxFinding('VHDX_REGION_TABLE_COPY_DAMAGED', 'warning', message, tableOffset));
    } else if (!chosen) {
      chosen = { entries, tableOffset, bytes };
    } else if (Buffer.compare(bytes, chosen.bytes) !== 0) {
      const message = 'both region tables are valid but differ; the first is used';
      findings.push(vhdxFinding('VHDX_REGION_TABLES_DIFFER', 'warning', message, tableOffset));
    }
  }
  if (chosen) return chosen;
  const at = REGION_TABLE_OFFSETS[0] ?? 0;
  throw vhdxCorrupt('VHDX_REGION_TABLE_INVALID', 'no valid region table', file.path, at);
}

const KNOWN = new Map<string, { name: string; maxLength: number }>([
  [REGION_GUID.bat, { name: 'BAT', maxLength: MAX_BAT_LENGTH }],
  [REGION_GUID.metadata, { name: 'metadata', maxLength: MAX_METADATA_REGION_LENGTH }],
]);

function checkRegion(entry: RegionEntry, at: number, file: RandomAccessFile): OwnedRange {
  const known = KNOWN.get(entry.guid);
  if (!known && entry.required) {
    throw vhdxUnsupported(
      'VHDX_REGION_UNKNOWN_REQUIRED',
      `the image needs a region of unknown kind ${entry.guid}`,
      file.path,
      at,
      'The image uses a feature newer than this program; open it with the program that wrote it.',
    );
  }
  const name = known ? `the ${known.name} region` : `region ${entry.guid}`;
  const { offset, length } = entry;
  const fail = (message: string): Error =>
    vhdxCorrupt('VHDX_REGION_INVALID', `${name} ${message}`, file.path, at);
  if (offset === undefined || offset < HEADER_SECTION_END || offset % PLACEMENT_UNIT !== 0) {
    throw fail('does not start at a multiple of 1 MiB behind the headers');
  }
  if (length === 0 || length % PLACEMENT_UNIT !== 0) throw fail(`has the length ${length}`);
  if (known && length > known.maxLength) throw fail(`is too long (${length} bytes)`);
  if (offset + length > file.size()) throw fail('lies outside the file');
  return { name, offset, length };
}

/** Sorts by offset and compares neighbours: exact, and never quadratic. */
function refuseOverlaps(ranges: readonly OwnedRange[], path: string, tableOffset: number): void {
  const sorted = [...ranges].sort((a, b) => a.offset - b.offset);
  let previous: OwnedRange | undefined;
  for (const range of sorted) {
    if (previous && previous.offset + previous.length > range.offset) {
      const message = `${previous.name} and ${range.name} overlap at ${range.offset}`;
      throw vhdxCorrupt('VHDX_REGION_OVERLAP', message, path, tableOffset);
    }
    previous = range;
  }
}
