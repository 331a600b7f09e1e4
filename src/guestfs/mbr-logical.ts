/**
 * The partitions of an MBR with absolute places, those in the chain of extended boot records included.
 *
 * Invariant: the chain is followed at most MAX_LOGICAL records far, never to the same one twice and never
 * outside the disk. A chain that breaks off is said so, beside what was found up to there.
 */
import { decodeMbr, isExtended, MBR_BYTES, MBR_TYPE, type MbrEntry } from './mbr.js';
import type { ReadBytes } from './partition-table.js';

const MAX_LOGICAL = 256;
const FIRST_LOGICAL_NUMBER = 5;

/** A partition; `first` counts sectors from the start of the disk. */
export interface MbrPartition {
  /** As people and tools count: 1 to 4, logical ones from 5 on. */
  number: number;
  type: number;
  first: number;
  count: number;
}

export interface MbrPartitions {
  /** Extended partitions are among them, before the logical ones that they hold. */
  partitions: MbrPartition[];
  /** Why logical partitions may be missing, as the rest of "the chain of logical partitions …". */
  broken?: string;
}

interface Disk {
  read: ReadBytes;
  sectorSize: number;
  /** Bytes. */
  size: number;
}

async function logicalPartitions(disk: Disk, start: number, found: MbrPartitions): Promise<void> {
  const seen = new Set<number>();
  for (let lba: number | undefined = start; lba !== undefined; ) {
    const at: number = lba;
    const offset = at * disk.sectorSize;
    const broken = (why: string): void => {
      found.broken = `${why} at byte ${offset}`;
    };
    if (seen.has(at)) return broken('comes back to itself');
    if (seen.size >= MAX_LOGICAL) return broken(`is longer than ${MAX_LOGICAL}`);
    if (offset + MBR_BYTES > disk.size) return broken('leaves the disk');
    seen.add(at);
    const entries = decodeMbr(await disk.read(offset, MBR_BYTES));
    if (!entries) return broken('has no boot record');
    const links = entries.filter(({ type }) => isExtended(type));
    if (links.length > 1) return broken('has two successors');
    for (const { type, first, count } of entries.filter((entry) => !isExtended(entry.type))) {
      found.partitions.push({ number: FIRST_LOGICAL_NUMBER + seen.size - 1, type, first: at + first, count });
    }
    // Links count from the extended partition, other entries from the record that they are in.
    lba = links[0] ? start + links[0].first : undefined;
  }
}

/**
 * All partitions in the order in which they are found; protective entries are none.
 * @param entries those of the disk's first sector
 * @param size bytes of the disk
 */
export async function mbrPartitions(
  entries: readonly MbrEntry[],
  read: ReadBytes,
  sectorSize: number,
  size: number,
): Promise<MbrPartitions> {
  const found: MbrPartitions = { partitions: [] };
  for (const { slot, type, first, count } of entries) {
    if (type === MBR_TYPE.protective) continue;
    found.partitions.push({ number: slot + 1, type, first, count });
    if (isExtended(type)) await logicalPartitions({ read, sectorSize, size }, first, found);
  }
  return found;
}
