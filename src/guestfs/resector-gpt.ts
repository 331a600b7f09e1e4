/**
 * Rewrites a GUID partition table for another sector size: protective MBR, both headers, both arrays.
 *
 * Invariants: partitions stay where they are to the byte, with their ids, types, names and attributes; the
 * new tables overlap no partition; the backup is at the end of the disk as it is going to be. Old headers
 * and arrays are erased, so that no program that guesses the other sector size finds a second table.
 */
import {
  arrayBytes,
  arrayCrc,
  arraySectors,
  encodeGptHeader,
  GPT_HEADER_LBA,
  type GptHeader,
  type GptPartition,
  MIN_ARRAY_ROOM,
  moveGptEntries,
} from './gpt.js';
import { MBR_TYPE, moveMbrEntries } from './mbr.js';
import type { GptCopy, GptTable } from './partition-table.js';
import {
  type Edit,
  inNewSectors,
  type Resectored,
  refuseResector,
  type SectorChange,
  type Span,
} from './resector.js';

const PRIMARY_ARRAY_LBA = 2;
const MAX_U32 = 0xffff_ffff;

interface Room {
  /** First sector behind the primary array. */
  firstUsable: number;
  /** Last sector in front of the backup array. */
  lastUsable: number;
  backupArrayLba: number;
  backupLba: number;
}

function label({ number, name }: GptPartition): string {
  return name === '' ? `partition ${number}` : `partition ${number} (${name})`;
}

function roomFor(header: GptHeader, { to, size }: SectorChange): Room {
  const sectors = size / to;
  const kept = Math.max(arraySectors(header, to), MIN_ARRAY_ROOM / to);
  return {
    firstUsable: PRIMARY_ARRAY_LBA + kept,
    lastUsable: sectors - 2 - kept,
    backupArrayLba: sectors - 1 - kept,
    backupLba: sectors - 1,
  };
}

function movePartition(partition: GptPartition, room: Room, change: SectorChange): GptPartition {
  const name = label(partition);
  const first = inNewSectors(partition.first, change, `${name} begins at`);
  const last = inNewSectors(partition.last + 1, change, `${name} ends at`) - 1;
  const { to } = change;
  if (first < room.firstUsable) {
    const message = `${name} begins at byte ${first * to}, and the table needs the first ${room.firstUsable * to} bytes`;
    refuseResector(message, change, 'Move the beginning of that partition, or keep the sector size.');
  }
  if (last > room.lastUsable) {
    const free = change.size - (last + 1) * to;
    const message = `${name} ends ${free} bytes before the end of the disk, and the copy of the table needs ${change.size - (room.lastUsable + 1) * to}`;
    refuseResector(
      message,
      change,
      'Make the disk or that partition a little (1 MiB) larger or smaller first.',
    );
  }
  return { ...partition, first, last };
}

/** Zeros over a copy's header and array, except where a partition is: a copy may be long out of use. */
function erase({ header }: GptCopy, sectorSize: number, partitions: readonly Span[]): Edit[] {
  const edits = [
    { offset: header.myLba * sectorSize, bytes: new Uint8Array(sectorSize) },
    { offset: header.entriesLba * sectorSize, bytes: new Uint8Array(arrayBytes(header)) },
  ];
  return edits.filter(({ offset, bytes }) =>
    partitions.every((span) => offset + bytes.length <= span.offset || offset >= span.offset + span.length),
  );
}

function protectiveMbr(table: GptTable, change: SectorChange): Edit[] {
  const protective = table.mbrEntries.filter(({ type }) => type === MBR_TYPE.protective);
  const [entry] = protective;
  if (!entry) return [];
  if (table.mbrEntries.length > 1) {
    refuseResector(
      'besides the GPT, the MBR has partitions of its own (a hybrid MBR)',
      change,
      'Make it a plain protective MBR first (gdisk: x, n, w), or keep the sector size.',
    );
  }
  const count = Math.min(change.size / change.to - 1, MAX_U32);
  return [{ offset: 0, bytes: moveMbrEntries(table.mbr, [{ slot: entry.slot, first: 1, count }]) }];
}

/** @throws UNSUPPORTED when a partition's place can't be expressed or is needed for the table */
export function resectorGpt(table: GptTable, change: SectorChange): Resectored {
  const { from, to } = change;
  const { header, array, partitions } = table.valid;
  const room = roomFor(header, change);
  if (room.firstUsable > room.lastUsable) {
    refuseResector(`a disk of ${change.size} bytes is too small for it`, change, 'Keep the sector size.');
  }
  const moved = partitions.map((partition) => movePartition(partition, room, change));
  const newArray = moveGptEntries(array, header.entrySize, moved);
  const firstUsable = Math.max(room.firstUsable, Math.ceil((header.firstUsable * from) / to));
  const lastUsable = Math.min(room.lastUsable, Math.floor(((header.lastUsable + 1) * from) / to) - 1);
  if (firstUsable > lastUsable) {
    refuseResector('nothing usable would be left between its copies', change, 'Keep the sector size.');
  }
  const common = { ...header, firstUsable, lastUsable, entriesCrc: arrayCrc(newArray) };
  const primary = {
    ...common,
    myLba: GPT_HEADER_LBA,
    alternateLba: room.backupLba,
    entriesLba: PRIMARY_ARRAY_LBA,
  };
  const backup = {
    ...common,
    myLba: room.backupLba,
    alternateLba: GPT_HEADER_LBA,
    entriesLba: room.backupArrayLba,
  };
  const spans: Span[] = partitions.map((partition) => ({
    label: label(partition),
    offset: partition.first * from,
    length: (partition.last - partition.first + 1) * from,
  }));
  // A damaged primary copy can't say where its entries are; its header at least must go.
  const oldPrimary = table.primary
    ? erase(table.primary, from, spans)
    : [{ offset: GPT_HEADER_LBA * from, bytes: new Uint8Array(from) }];
  const edits: Edit[] = [
    ...oldPrimary,
    ...(table.backup ? erase(table.backup, from, spans) : []),
    ...protectiveMbr(table, change),
    { offset: PRIMARY_ARRAY_LBA * to, bytes: newArray },
    { offset: GPT_HEADER_LBA * to, bytes: encodeGptHeader(primary, to) },
    { offset: room.backupArrayLba * to, bytes: newArray },
    { offset: room.backupLba * to, bytes: encodeGptHeader(backup, to) },
  ];
  return { edits, partitions: spans };
}
