/**
 * What a disk's tables say of its end: where partitions and file systems stop, and whether that can be
 * believed.
 *
 * Invariant: errs on the side of more being in use. A table that is damaged, contradicts itself or breaks
 * off is a doubt that the caller must face, never "nothing is there". Reads stay inside the disk.
 *
 * Not here: looking at the payload itself.
 */
import { MiB } from '../base/bytes.js';
import { assumedSectorSize, HEAD_BYTES } from './assumed-sector-size.js';
import { partitionName } from './gpt-move.js';
import { readLogicalPartitions, type SectorSpan } from './logical-partitions.js';
import { isExtended, MBR_TYPE, type MbrEntry } from './mbr.js';
import {
  findPartitionTable,
  type GptTable,
  type MbrTable,
  type ReadBytes,
  type TableSectorSize,
} from './partition-table.js';
import type { Span } from './resector.js';
import { fileSystemEnd, SUPERBLOCK_BYTES } from './resize-file-system.js';

/** Windows' dynamic disks keep their database in the last MiB of the disk, behind the partition. */
const DYNAMIC_DISK = 0x42;
const FIRST_LOGICAL_NUMBER = 5;

export interface DiskLayout {
  table: 'gpt' | 'mbr' | 'none';
  /** Of the table. */
  sectorSize: TableSectorSize;
  /** Partitions, or the file system of a disk without a table. Bytes; may reach beyond the disk. */
  spans: Span[];
  /** Why the spans are not to be relied on, each as a sentence without its full stop. */
  doubts: string[];
  gpt?: GptTable;
}

interface Disk {
  read: ReadBytes;
  /** Bytes. */
  size: number;
  /** Sector size of the image; undefined where it does not say (raw). */
  sectorSize: TableSectorSize | undefined;
}

async function knowsFileSystem({ read, size }: Disk, offset: number): Promise<boolean> {
  if (offset + HEAD_BYTES > size) return false;
  return assumedSectorSize(await read(offset, HEAD_BYTES)) !== undefined;
}

/** An MBR does not say what its sectors are: file systems stand where it means. */
async function mbrSectorSize(disk: Disk, entries: readonly MbrEntry[]): Promise<TableSectorSize> {
  if (disk.sectorSize !== undefined) return disk.sectorSize;
  for (const sectorSize of [512, 4096] as const) {
    for (const { first } of entries) if (await knowsFileSystem(disk, first * sectorSize)) return sectorSize;
  }
  return 512;
}

/** Partitions of an MBR, also of the one in front of a GPT (hybrid). Those of an extended one follow it. */
async function mbrSpans(
  disk: Disk,
  entries: readonly MbrEntry[],
  sectorSize: TableSectorSize,
): Promise<Pick<DiskLayout, 'spans' | 'doubts'>> {
  const spans: Span[] = [];
  const doubts: string[] = [];
  const add = (label: string, { first, count }: SectorSpan): Span => {
    const span = { label, offset: first * sectorSize, length: count * sectorSize };
    spans.push(span);
    return span;
  };
  let logical = FIRST_LOGICAL_NUMBER;
  for (const entry of entries) {
    if (entry.type === MBR_TYPE.protective) continue;
    const name = `partition ${entry.slot + 1}`;
    const { offset, length } = add(isExtended(entry.type) ? `${name} (extended)` : name, entry);
    if (!isExtended(entry.type)) continue;
    if (offset + length > disk.size) {
      doubts.push(`${name} (extended) reaches beyond the disk`);
      continue;
    }
    const found = await readLogicalPartitions(disk.read, entry, sectorSize);
    if ('defect' in found) doubts.push(`the chain of logical partitions is broken: ${found.defect}`);
    else for (const partition of found) add(`partition ${logical++}`, partition);
  }
  if (entries.some(({ type }) => type === DYNAMIC_DISK) && disk.size > MiB) {
    spans.push({ label: 'the database of dynamic disks', offset: disk.size - MiB, length: MiB });
  }
  return { spans, doubts };
}

async function mbrLayout(disk: Disk, { mbrEntries }: MbrTable): Promise<DiskLayout> {
  const sectorSize = await mbrSectorSize(disk, mbrEntries);
  const { spans, doubts } = await mbrSpans(disk, mbrEntries, sectorSize);
  if (mbrEntries.some(({ type }) => type === MBR_TYPE.protective)) {
    doubts.push('the MBR announces a GPT, and no copy of it is there');
  }
  return { table: 'mbr', sectorSize, spans, doubts };
}

async function gptLayout(disk: Disk, gpt: GptTable): Promise<DiskLayout> {
  const { sectorSize, valid } = gpt;
  const hybrid = await mbrSpans(disk, gpt.mbrEntries, sectorSize);
  const spans = valid.partitions.map((partition) => ({
    label: partitionName(partition),
    offset: partition.first * sectorSize,
    length: (partition.last - partition.first + 1) * sectorSize,
  }));
  const known = new Set(spans.map(({ offset, length }) => `${offset} ${length}`));
  spans.push(...hybrid.spans.filter(({ offset, length }) => !known.has(`${offset} ${length}`)));
  return { table: 'gpt', sectorSize, spans, doubts: hybrid.doubts, gpt };
}

async function tablelessLayout({ read, size, sectorSize = 512 }: Disk): Promise<DiskLayout> {
  const head = new Uint8Array(SUPERBLOCK_BYTES);
  head.set(await read(0, Math.min(size, head.length)));
  const found = fileSystemEnd(head);
  const label = `the ${found?.fileSystem} file system`;
  return {
    table: 'none',
    sectorSize,
    spans: found ? [{ label, offset: 0, length: found.bytes }] : [],
    doubts: [],
  };
}

/**
 * @param sectorSize of the image, where it says one: tells how an MBR counts, and which of two GPTs is meant
 * @throws what `read` throws
 */
export async function readDiskLayout(
  read: ReadBytes,
  size: number,
  sectorSize?: TableSectorSize,
): Promise<DiskLayout> {
  const disk: Disk = { read, size, sectorSize };
  const table = await findPartitionTable(read, size, sectorSize);
  switch (table?.kind) {
    case 'gpt':
      return gptLayout(disk, table);
    case 'mbr':
      return mbrLayout(disk, table);
    case 'damaged':
      return {
        table: 'gpt',
        sectorSize: table.sectorSize,
        spans: [],
        doubts: [`the GPT is damaged: it ${table.defect}`],
      };
    case 'ambiguous':
      return {
        table: 'gpt',
        sectorSize: sectorSize ?? 512,
        spans: [],
        doubts: ['there are two GPTs, for sectors of 512 and of 4096 bytes'],
      };
    default:
      return tablelessLayout(disk);
  }
}
