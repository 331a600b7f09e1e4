/**
 * The logical partitions of an MBR disk: a chain of extended boot records inside the extended partition.
 *
 * Invariant: every record and every partition lies inside the extended partition, partitions lie apart from
 * each other and from the records, no record is read twice, and at most MAX_LOGICAL are read. Anything else
 * is a defect, because what one system takes for free space another may take for a partition.
 *
 * Source: UEFI specification 2.10, 5.2 leaves these records to convention; Linux, block/partitions/msdos.c.
 */
import { decodeMbr, isExtended, MBR_BYTES, type MbrEntry } from './mbr.js';
import type { ReadBytes } from './partition-table.js';

const MAX_LOGICAL = 256;

/** Sectors of the disk. */
export interface SectorSpan {
  first: number;
  count: number;
}

export interface LogicalPartition extends SectorSpan {
  type: number;
}

export interface ChainDefect {
  defect: string;
}

interface Record {
  partition: LogicalPartition | undefined;
  next: number | undefined;
}

function inside(inner: SectorSpan, outer: SectorSpan): boolean {
  return (
    inner.count > 0 && inner.first >= outer.first && inner.first + inner.count <= outer.first + outer.count
  );
}

function decodeRecord(entries: readonly MbrEntry[], lba: number, extended: SectorSpan): Record | ChainDefect {
  const links = entries.filter(({ type }) => isExtended(type));
  const partitions = entries.filter(({ type }) => !isExtended(type));
  const [link] = links;
  const [partition] = partitions;
  if (links.length > 1 || partitions.length > 1) return { defect: `the record at sector ${lba} is crowded` };
  return {
    next: link && extended.first + link.first,
    partition: partition && { type: partition.type, first: lba + partition.first, count: partition.count },
  };
}

function overlap(spans: readonly SectorSpan[]): boolean {
  const sorted = [...spans].sort((a, b) => a.first - b.first);
  return sorted.some((span, index) => {
    const before = sorted[index - 1];
    return before !== undefined && before.first + before.count > span.first;
  });
}

/**
 * Follows the chain.
 * @param extended the extended partition, inside the disk
 * @param sectorSize bytes
 */
export async function readLogicalPartitions(
  read: ReadBytes,
  extended: SectorSpan,
  sectorSize: number,
): Promise<LogicalPartition[] | ChainDefect> {
  const partitions: LogicalPartition[] = [];
  const records: SectorSpan[] = [];
  let lba: number | undefined = extended.first;
  while (lba !== undefined) {
    if (records.length >= MAX_LOGICAL) return { defect: 'too many logical partitions' };
    const place: SectorSpan = { first: lba, count: 1 };
    if (!inside(place, extended))
      return { defect: `a record at sector ${lba} outside the extended partition` };
    records.push(place);
    // A record that comes again overlaps itself.
    if (overlap(records)) return { defect: `the chain comes back to sector ${lba}` };
    const entries: MbrEntry[] | undefined = decodeMbr(await read(lba * sectorSize, MBR_BYTES));
    if (!entries) return { defect: `there is no record at sector ${lba}` };
    const record: Record | ChainDefect = decodeRecord(entries, lba, extended);
    if ('defect' in record) return record;
    if (record.partition) {
      if (!inside(record.partition, extended))
        return { defect: `a logical partition outside the extended one` };
      partitions.push(record.partition);
    }
    lba = record.next;
  }
  if (overlap([...partitions, ...records])) return { defect: 'logical partitions overlap' };
  return partitions;
}
