/**
 * Divides a disk into the volumes that file systems lie on: partitions, or the whole disk where there is
 * no table.
 *
 * Invariant: volumes to be read lie inside the disk and apart from each other. What is on no volume (boot
 * code, tables, gaps) is never given back. A table that is damaged, ambiguous or contradicted by what else
 * is on the disk makes the whole disk one volume that has to be kept.
 */
import type { VolumeRange } from './free-space.js';
import type { GptPartition } from './gpt.js';
import { readLogicalPartitions, type SectorSpan } from './logical-partitions.js';
import { decodeMbr, isExtended, MBR_BYTES, MBR_TYPE, type MbrEntry } from './mbr.js';
import {
  findPartitionTable,
  type GptTable,
  type ReadBytes,
  type TableSectorSize,
} from './partition-table.js';
import { opaqueKind } from './signatures.js';
import { bootSectorKind, wholeDiskFileSystem } from './whole-disk.js';

/** A volume; with `keep` it must not be read, let alone changed. */
export interface FoundVolume extends VolumeRange {
  keep?: { kind: string; reason: string };
}

const FIRST_LOGICAL_NUMBER = 5;
const DYNAMIC = { kind: 'Windows dynamic disk', reason: 'its volumes may lie anywhere on it' };
/** Partitions whose contents go by the partition's type, not by what their first sectors look like. */
const KEPT_GUIDS: ReadonlyMap<string, { kind: string; reason: string }> = new Map([
  ['5808c8aa-7e8f-42e0-85d2-e1e90434cfb3', DYNAMIC],
  ['af9b60a0-1431-4f62-bc68-3311714a69ad', DYNAMIC],
  [
    'e75caf8f-f680-4cee-afa3-b001e56efc2d',
    { kind: 'Storage Spaces', reason: 'its volumes may lie anywhere on it' },
  ],
]);
const BSD = { kind: 'BSD slice', reason: 'partitions inside it are not read' };
const KEPT_TYPES: ReadonlyMap<number, { kind: string; reason: string }> = new Map([
  [0x42, DYNAMIC],
  [0xa5, BSD],
  [0xa6, BSD],
  [0xa9, BSD],
  [0xbf, { kind: 'Solaris slice', reason: 'partitions inside it are not read' }],
]);

function wholeDisk(size: number): FoundVolume {
  return { offset: 0, length: size, name: 'whole disk' };
}

function keptDisk(size: number, reason: string): FoundVolume[] {
  return [{ ...wholeDisk(size), keep: { kind: 'partition table', reason } }];
}

interface Disk {
  read: ReadBytes;
  size: number;
  /** Bytes that the table's numbers count. */
  sectorSize: number;
}

/** A partition as a volume; one that ends outside the disk is cut there and kept. */
function toVolume(
  disk: Disk,
  { first, count }: SectorSpan,
  number: number,
  keep?: FoundVolume['keep'],
): FoundVolume {
  const offset = Math.min(first * disk.sectorSize, disk.size);
  const end = offset + count * disk.sectorSize;
  const volume: FoundVolume = {
    offset,
    length: Math.min(end, disk.size) - offset,
    name: `partition ${number}`,
  };
  if (end > disk.size) return { ...volume, keep: { kind: 'unknown', reason: 'it ends outside the disk' } };
  return keep ? { ...volume, keep } : volume;
}

/** What makes a GPT something that different systems read differently. */
function gptDefect({ primary, backup, mbrEntries }: GptTable): string | undefined {
  if (!primary) return 'the GPT at the start of the disk is damaged';
  if (backup && backup.header.entriesCrc !== primary.header.entriesCrc)
    return 'the two copies of the GPT differ';
  const foreign = mbrEntries.find(
    ({ type, first }) =>
      type !== MBR_TYPE.protective && !primary.partitions.some((partition) => partition.first === first),
  );
  return foreign ? 'the MBR and the GPT name different partitions' : undefined;
}

function gptVolumes(disk: Disk, partitions: readonly GptPartition[]): FoundVolume[] {
  return partitions.map(({ first, last, number, typeGuid }) =>
    toVolume(disk, { first, count: last - first + 1 }, number, KEPT_GUIDS.get(typeGuid.toLowerCase())),
  );
}

async function extendedVolumes(disk: Disk, entry: MbrEntry, start: number): Promise<FoundVolume[]> {
  const container = toVolume(disk, entry, entry.slot + 1);
  if (container.keep) return [container];
  const chain = await readLogicalPartitions(disk.read, entry, disk.sectorSize);
  if ('defect' in chain)
    return [{ ...container, keep: { kind: 'extended partition', reason: chain.defect } }];
  return chain.map((logical, index) => toVolume(disk, logical, start + index, KEPT_TYPES.get(logical.type)));
}

async function mbrVolumes(disk: Disk, entries: readonly MbrEntry[]): Promise<FoundVolume[]> {
  const volumes: FoundVolume[] = [];
  let logical = FIRST_LOGICAL_NUMBER;
  for (const entry of entries) {
    if (isExtended(entry.type)) {
      const found = await extendedVolumes(disk, entry, logical);
      logical += found.length;
      volumes.push(...found);
    } else {
      volumes.push(toVolume(disk, entry, entry.slot + 1, KEPT_TYPES.get(entry.type)));
    }
  }
  return volumes;
}

/** Is this a boot record with entries that nobody could use, and not the boot sector of a file system? */
function isBrokenTable(sector: Uint8Array): boolean {
  const entries = decodeMbr(sector) ?? [];
  const statusFits = entries.every(({ status }) => status === 0x00 || status === 0x80);
  return entries.length > 0 && statusFits && bootSectorKind(sector) === undefined;
}

/** What covers all of a disk that also has a table. */
async function rival(read: ReadBytes, size: number): Promise<string | undefined> {
  return (await wholeDiskFileSystem(read, size)) ?? (await opaqueKind(read, wholeDisk(size)));
}

/**
 * The volumes of a disk of `size` bytes, in the order of their offsets.
 * @param sectorSize what the disk's sectors have; an MBR does not say, and 512 is the default
 * @throws what `read` throws
 */
export async function findVolumes(
  read: ReadBytes,
  size: number,
  sectorSize?: TableSectorSize,
): Promise<FoundVolume[]> {
  if (size < MBR_BYTES) return [{ ...wholeDisk(size), keep: { kind: 'unknown', reason: 'too small' } }];
  const table = await findPartitionTable(read, size, sectorSize);
  if (!table) {
    if (isBrokenTable(await read(0, MBR_BYTES))) return keptDisk(size, 'the MBR contradicts itself');
    return [wholeDisk(size)];
  }
  if (table.kind === 'ambiguous') return keptDisk(size, 'there are two GPTs, for sectors of two sizes');
  if (table.kind === 'damaged') return keptDisk(size, `the GPT is damaged: it ${table.defect}`);
  const other = await rival(read, size);
  if (other !== undefined)
    return keptDisk(size, `there is a partition table, and ${other} over all of the disk`);
  let volumes: FoundVolume[];
  if (table.kind === 'gpt') {
    const defect = gptDefect(table);
    if (defect !== undefined) return keptDisk(size, defect);
    volumes = gptVolumes({ read, size, sectorSize: table.sectorSize }, table.valid.partitions);
  } else {
    if (table.mbrEntries.some(({ type }) => type === MBR_TYPE.protective))
      return keptDisk(size, 'the MBR announces a GPT, and there is none');
    volumes = await mbrVolumes({ read, size, sectorSize: sectorSize ?? 512 }, table.mbrEntries);
  }
  return volumes.sort((a, b) => a.offset - b.offset);
}
