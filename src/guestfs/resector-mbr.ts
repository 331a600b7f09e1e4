/**
 * Rewrites an MBR, and the chain of extended boot records if there is one, for another sector size.
 *
 * Invariants: partitions and boot records stay where they are to the byte; boot code and disk signature
 * stay. The chain is followed at most MAX_LOGICAL records far and never to the same one twice.
 */
import { decodeMbr, isExtended, MBR_BYTES, MBR_TYPE, type MbrEntry, moveMbrEntries } from './mbr.js';
import type { MbrTable, ReadBytes } from './partition-table.js';
import {
  type Edit,
  inNewSectors,
  type Resectored,
  refuseResector,
  type SectorChange,
  type Span,
} from './resector.js';

const MAX_LOGICAL = 256;
const MAX_U32 = 0xffff_ffff;
const FIRST_LOGICAL_NUMBER = 5;

/** An entry in the new unit. `base` is the new sector number from which `first` counts. */
interface MovedEntry {
  slot: number;
  first: number;
  count: number;
  base: number;
}

function moveEntry(entry: MbrEntry, base: number, change: SectorChange, name: string): MovedEntry {
  const first = inNewSectors(base + entry.first, change, `${name} begins at`);
  const end = inNewSectors(base + entry.first + entry.count, change, `${name} ends at`);
  const newBase = inNewSectors(base, change, `the boot record of ${name} is at`);
  const moved = { slot: entry.slot, first: first - newBase, count: end - first, base: newBase };
  if (moved.first > MAX_U32 || moved.count > MAX_U32) {
    refuseResector(
      `${name} reaches beyond what an MBR can express`,
      change,
      'Keep the sector size, or use a GPT.',
    );
  }
  return moved;
}

interface Walk {
  read: ReadBytes;
  /** Bytes that can be read. */
  readable: number;
  change: SectorChange;
  out: Resectored;
}

function brokenChain(at: number, why: string, change: SectorChange): never {
  return refuseResector(
    `the chain of logical partitions is broken at byte ${at}: ${why}`,
    change,
    'Repair the table first (fdisk, testdisk), or keep the sector size.',
  );
}

/** Moves one extended boot record; returns the sector of the next one. */
async function moveRecord(
  walk: Walk,
  lba: number,
  start: number,
  number: number,
): Promise<number | undefined> {
  const { change, out } = walk;
  const offset = lba * change.from;
  if (offset + MBR_BYTES > walk.readable) brokenChain(offset, 'it leaves the disk', change);
  const record = await walk.read(offset, MBR_BYTES);
  const entries = decodeMbr(record);
  if (!entries) return brokenChain(offset, 'there is no boot record', change);
  const moved: MovedEntry[] = [];
  let next: number | undefined;
  for (const entry of entries) {
    if (isExtended(entry.type)) {
      // Links count from the extended partition, and there is one in a record.
      if (next !== undefined) brokenChain(offset, 'it has two successors', change);
      next = start + entry.first;
      moved.push(moveEntry(entry, start, change, `the link in front of partition ${number + 1}`));
    } else {
      const name = `partition ${number}`;
      moved.push(moveEntry(entry, lba, change, name));
      out.partitions.push(spanOf(name, lba + entry.first, entry.count, change));
    }
  }
  out.edits.push({ offset, bytes: moveMbrEntries(record, moved) });
  return next;
}

function spanOf(label: string, first: number, count: number, { from }: SectorChange): Span {
  return { label, offset: first * from, length: count * from };
}

async function moveLogical(walk: Walk, start: number): Promise<void> {
  const seen = new Set<number>();
  let lba: number | undefined = start;
  while (lba !== undefined) {
    const offset = lba * walk.change.from;
    if (seen.has(lba)) brokenChain(offset, 'it comes back to itself', walk.change);
    if (seen.size >= MAX_LOGICAL) brokenChain(offset, `it is longer than ${MAX_LOGICAL}`, walk.change);
    inNewSectors(lba, walk.change, 'a logical partition has its boot record at');
    seen.add(lba);
    lba = await moveRecord(walk, lba, start, FIRST_LOGICAL_NUMBER + seen.size - 1);
  }
}

/**
 * @param readable bytes of the disk that `read` can deliver
 * @throws UNSUPPORTED when a place can't be expressed, or the chain of logical partitions is broken
 */
export async function resectorMbr(
  table: MbrTable,
  change: SectorChange,
  read: ReadBytes,
  readable: number,
): Promise<Resectored> {
  const out: Resectored = { edits: [] as Edit[], partitions: [] };
  const walk: Walk = { read, readable, change, out };
  if (table.mbrEntries.some(({ type }) => type === MBR_TYPE.protective)) {
    refuseResector(
      'the MBR announces a GPT, but there is none at this sector size',
      change,
      'Repair the GPT first (gdisk), or choose the other sector size.',
    );
  }
  const moved: MovedEntry[] = [];
  for (const entry of table.mbrEntries) {
    const name = `partition ${entry.slot + 1}`;
    moved.push(moveEntry(entry, 0, change, name));
    if (isExtended(entry.type)) await moveLogical(walk, entry.first);
    else out.partitions.push(spanOf(name, entry.first, entry.count, change));
  }
  out.edits.push({ offset: 0, bytes: moveMbrEntries(table.mbr, moved) });
  return out;
}
