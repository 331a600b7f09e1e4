/**
 * Finds the partition table of a disk, and with it the sector size that the disk was made for: a GPT's
 * header is in the second sector, so where it lies tells how large sectors are. An MBR does not tell.
 *
 * Invariants: a table is an answer only when all its checks hold; one that is there but damaged is an
 * answer of its own, never "no table". Every read is inside the disk and bounded (4 MiB for an array).
 * A GPT counts only where an operating system would follow it: an MBR with partitions of its own and
 * without a protective entry means that the GPT behind it is a leftover.
 */
import {
  arrayBytes,
  arraySectors,
  decodeGptArray,
  decodeGptHeader,
  GPT_HEADER_LBA,
  type GptDefect,
  type GptHeader,
  type GptPartition,
  hasGptSignature,
  isDefect,
} from './gpt.js';
import { decodeMbr, isPlausibleTable, MBR_BYTES, MBR_TYPE, type MbrEntry } from './mbr.js';

export type TableSectorSize = 512 | 4096;

/** Delivers bytes of the disk; the range is always inside it. */
export type ReadBytes = (offset: number, length: number) => Promise<Uint8Array>;

/** One of the two copies of a GPT, everything in it checked. */
export interface GptCopy {
  header: GptHeader;
  array: Uint8Array;
  partitions: GptPartition[];
}

export interface GptTable {
  kind: 'gpt';
  sectorSize: TableSectorSize;
  /** The copy to go by: the primary one unless it is damaged. */
  valid: GptCopy;
  /** What is wrong with the primary or the backup copy, if anything. */
  defects: string[];
  /** The other copy where it is sound. */
  primary: GptCopy | undefined;
  backup: GptCopy | undefined;
  /** The first 512 bytes of the disk and the entries in them. */
  mbr: Uint8Array;
  mbrEntries: readonly MbrEntry[];
}

/** A GPT of which no copy is sound. */
export interface DamagedGpt {
  kind: 'damaged';
  sectorSize: TableSectorSize;
  defect: string;
}

/** Sound GPTs at both sector sizes: one of them is a leftover, and nothing tells which. */
export interface AmbiguousGpt {
  kind: 'ambiguous';
}

export interface MbrTable {
  kind: 'mbr';
  mbr: Uint8Array;
  mbrEntries: readonly MbrEntry[];
}

export type PartitionTable = GptTable | DamagedGpt | AmbiguousGpt | MbrTable;

interface Disk {
  read: ReadBytes;
  sectorSize: TableSectorSize;
  /** Whole sectors. */
  sectors: number;
}

async function readCopy(disk: Disk, lba: number): Promise<GptCopy | GptDefect | undefined> {
  const { sectorSize, sectors } = disk;
  if (lba < 1 || lba >= sectors) return undefined;
  const sector = await disk.read(lba * sectorSize, sectorSize);
  if (!hasGptSignature(sector)) return undefined;
  const header = decodeGptHeader(sector, lba);
  if (isDefect(header)) return header;
  if (header.lastUsable >= sectors || header.entriesLba + arraySectors(header, sectorSize) > sectors) {
    return { defect: `needs ${header.lastUsable + 1} sectors, and the disk has ${sectors}` };
  }
  const array = await disk.read(header.entriesLba * sectorSize, arrayBytes(header));
  const partitions = decodeGptArray(array, header);
  return isDefect(partitions) ? partitions : { header, array, partitions };
}

function sound(copy: GptCopy | GptDefect | undefined): GptCopy | undefined {
  return copy && !isDefect(copy) ? copy : undefined;
}

function sameGuid(a: GptCopy, b: GptCopy): boolean {
  return Buffer.compare(a.header.diskGuid, b.header.diskGuid) === 0;
}

function describeDefects(
  primary: GptCopy | GptDefect | undefined,
  backup: GptCopy | GptDefect | undefined,
  disk: Disk,
): string[] {
  const defects: string[] = [];
  for (const [name, copy] of [
    ['primary', primary],
    ['backup', backup],
  ] as const) {
    if (!copy) defects.push(`its ${name} copy is missing`);
    else if (isDefect(copy)) defects.push(`its ${name} copy ${copy.defect}`);
  }
  const end = sound(primary)?.header.alternateLba;
  if (end !== undefined && end !== disk.sectors - 1)
    defects.push('its backup copy is not at the end of the disk');
  return defects;
}

async function readGpt(
  disk: Disk,
  mbr: Uint8Array,
  mbrEntries: readonly MbrEntry[],
): Promise<GptTable | DamagedGpt | undefined> {
  const { sectorSize } = disk;
  const primary = await readCopy(disk, GPT_HEADER_LBA);
  // Without a primary header only the protective entry says that a copy at the end is not a leftover.
  if (!primary && !mbrEntries.some(({ type }) => type === MBR_TYPE.protective)) return undefined;
  const end = sound(primary)?.header.alternateLba ?? disk.sectors - 1;
  let backup = await readCopy(disk, end);
  const first = sound(primary);
  const second = sound(backup);
  if (first && second && !sameGuid(first, second)) backup = { defect: 'belongs to another table' };
  const valid = first ?? second;
  if (valid) {
    const defects = describeDefects(primary, backup, disk);
    return {
      kind: 'gpt',
      sectorSize,
      valid,
      defects,
      primary: first,
      backup: sound(backup),
      mbr,
      mbrEntries,
    };
  }
  const broken = primary ?? backup;
  return broken && isDefect(broken) ? { kind: 'damaged', sectorSize, defect: broken.defect } : undefined;
}

/**
 * The partition table of a disk of `size` bytes; undefined when there is none.
 * @param preferred settles which of two sound GPTs counts, where something else says so
 * @param sizes sector sizes that come into question
 * @throws what `read` throws
 */
export async function findPartitionTable(
  read: ReadBytes,
  size: number,
  preferred?: TableSectorSize,
  sizes: readonly TableSectorSize[] = [512, 4096],
): Promise<PartitionTable | undefined> {
  if (size < MBR_BYTES) return undefined;
  const mbr = await read(0, MBR_BYTES);
  const mbrEntries = decodeMbr(mbr) ?? [];
  const isProtective = mbrEntries.some(({ type }) => type === MBR_TYPE.protective);
  const asMbr: MbrTable = { kind: 'mbr', mbr, mbrEntries };
  const plausible = isPlausibleTable(mbrEntries, Math.floor(size / MBR_BYTES));
  if (plausible && !isProtective) return asMbr;
  const found: (GptTable | DamagedGpt)[] = [];
  for (const sectorSize of sizes) {
    const disk = { read, sectorSize, sectors: Math.floor(size / sectorSize) };
    const table = await readGpt(disk, mbr, mbrEntries);
    if (table) found.push(table);
  }
  const valid = found.filter(({ kind }) => kind === 'gpt');
  if (valid.length > 1)
    return valid.find(({ sectorSize }) => sectorSize === preferred) ?? { kind: 'ambiguous' };
  return valid[0] ?? found[0] ?? (plausible ? asMbr : undefined);
}
