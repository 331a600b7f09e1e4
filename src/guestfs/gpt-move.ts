/**
 * Moves the backup copy of a GUID partition table to the end of a disk that gets another size. Pure.
 *
 * Invariants: the answer is a list of steps, each to be durable before the next one begins, and at every
 * instant in between (a step may be done in part, in any order) one of the two copies is sound, with the
 * partitions as they were: the backup is written while nothing touches the primary, and the primary is
 * changed when the new backup is complete. Where a header that is being written counts as lost, the other copy
 * is still found, but for disks that shrink by less than a backup takes. Partitions keep their places, ids and names; only those that
 * the new end cuts are shortened or dropped, and only if that is allowed.
 */
import { KiB, MiB, roundDown, roundUp } from '../base/bytes.js';
import { VhdkitError } from '../base/errors.js';
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
import type { Edit } from './resector.js';

const MAX_U32 = 0xffff_ffff;

/** What moving the backup changes. */
export interface GptMove {
  /** Writes, in steps. Offsets are bytes of the disk; all are inside it at both sizes that matter. */
  steps: Edit[][];
  /** Partitions that end before or vanish, as they were. Empty unless `cut` was allowed. */
  cut: GptPartition[];
  /** Bytes of the disk in front of the new backup: where partitions end at the latest. */
  end: number;
}

export interface GptMoveOptions {
  /** Bytes of the disk as it is going to be. */
  size: number;
  /** Shorten and drop partitions that would not fit. */
  cut?: boolean;
}

interface Room {
  lastUsable: number;
  backupArrayLba: number;
  backupLba: number;
}

export function partitionName({ number, name }: GptPartition): string {
  return name === '' ? `partition ${number}` : `partition ${number} (${name})`;
}

function refuse(message: string, hint: string): never {
  throw new VhdkitError('UNSUPPORTED', `The copy of the partition table can't be moved: ${message}`, {
    operation: 'move GPT',
    hint,
  });
}

/** Sectors at the end of a disk that a GPT's backup takes: header and array. */
export function backupSectors(header: GptHeader, sectorSize: number): number {
  return Math.max(arraySectors(header, sectorSize), Math.ceil(MIN_ARRAY_ROOM / sectorSize)) + 1;
}

/**
 * The smallest size in bytes of a disk that holds all partitions and the backup behind them; whole sectors
 * of 4 KiB.
 */
export function smallestGptDisk({ valid, sectorSize }: GptTable): number {
  const { header, partitions } = valid;
  const end = Math.max(header.firstUsable + 1, ...partitions.map(({ last }) => last + 1));
  return roundUp((end + backupSectors(header, sectorSize)) * sectorSize, 4 * KiB);
}

function roomFor(header: GptHeader, sectorSize: number, size: number): Room {
  const sectors = Math.floor(size / sectorSize);
  const taken = backupSectors(header, sectorSize);
  return { lastUsable: sectors - 1 - taken, backupArrayLba: sectors - taken, backupLba: sectors - 1 };
}

/** The entry array without what lies behind the last usable sector. */
function cutArray(copy: GptCopy, cut: readonly GptPartition[], lastUsable: number): Uint8Array {
  const { array, header } = copy;
  const shortened = cut.filter(({ first }) => first <= lastUsable);
  const out = moveGptEntries(
    array,
    header.entrySize,
    shortened.map(({ number, first }) => ({ number, first, last: lastUsable })),
  );
  for (const { number, first } of cut) {
    if (first > lastUsable) out.fill(0, (number - 1) * header.entrySize, number * header.entrySize);
  }
  return out;
}

/** Zeros over the old backup as far as it is in front of the new one and of no partition. */
function eraseOld(table: GptTable, newStart: number): Edit[] {
  const { backup, sectorSize, valid } = table;
  if (!backup) return [];
  const { myLba, entriesLba } = backup.header;
  const ranges = [
    { start: myLba * sectorSize, end: (myLba + 1) * sectorSize },
    { start: entriesLba * sectorSize, end: entriesLba * sectorSize + arrayBytes(backup.header) },
  ];
  return ranges.flatMap(({ start, end: whole }) => {
    const end = Math.min(whole, newStart);
    const inUse = valid.partitions.some(
      ({ first, last }) => start < (last + 1) * sectorSize && end > first * sectorSize,
    );
    return end > start && !inUse ? [{ offset: start, bytes: new Uint8Array(end - start) }] : [];
  });
}

/** The protective entry's length; a hybrid MBR, whose other entries have owners, stays as it is. */
function protectiveMbr({ mbr, mbrEntries, sectorSize }: GptTable, size: number): Edit[] {
  const [entry, ...others] = mbrEntries;
  if (entry?.type !== MBR_TYPE.protective || others.length > 0) return [];
  const count = Math.min(Math.floor(size / sectorSize) - 1, MAX_U32);
  return [{ offset: 0, bytes: moveMbrEntries(mbr, [{ slot: entry.slot, first: 1, count }]) }];
}

/**
 * A disk that becomes smaller by less than the backup takes: the new one is written over the old one while
 * the disk's end is still where it was. One sector, the primary header, may change then; not its array too.
 */
function assertApart({ backup, sectorSize }: GptTable, cut: readonly GptPartition[], newStart: number): void {
  if (!backup || cut.length === 0 || (backup.header.myLba + 1) * sectorSize <= newStart) return;
  const start = backup.header.entriesLba * sectorSize;
  const taken = backupSectors(backup.header, sectorSize) * sectorSize;
  if (newStart + taken <= start) return;
  refuse(
    'it would be written over the old one while partitions are cut, and a power failure could leave neither',
    `Choose at most ${roundDown(start, 4 * KiB)} bytes.`,
  );
}

function assertRoom(table: GptTable, room: Room, options: GptMoveOptions): GptPartition[] {
  const { header, partitions } = table.valid;
  const tooFar = partitions.filter(({ last }) => last > room.lastUsable);
  const [first] = tooFar;
  const enough = `Choose at least ${roundUp(smallestGptDisk(table), MiB)} bytes.`;
  if (room.lastUsable < header.firstUsable) {
    refuse(`a disk of ${options.size} bytes is too small for a GPT with its copy`, enough);
  }
  if (first && !options.cut) {
    const needed = (room.backupLba - room.lastUsable) * table.sectorSize;
    const message = `${partitionName(first)} ends at byte ${(first.last + 1) * table.sectorSize}, and the copy needs the last ${needed} bytes of ${options.size}`;
    refuse(message, enough);
  }
  return tooFar;
}

/**
 * How to move the backup to the end of a disk of `size` bytes.
 *
 * A disk that grows gets its new size first, one that shrinks last.
 * @throws UNSUPPORTED when there is no sound primary copy, or no room
 */
export function moveGptBackup(table: GptTable, options: GptMoveOptions): GptMove {
  const { primary, sectorSize } = table;
  if (!primary) {
    return refuse(
      'the primary copy is damaged',
      'Repair the table first: in the guest, or with gdisk (r, b, w) on a raw image.',
    );
  }
  const { header } = primary;
  const room = roomFor(header, sectorSize, options.size);
  const cut = assertRoom(table, room, options);
  assertApart(table, cut, room.backupArrayLba * sectorSize);
  const array = cut.length > 0 ? cutArray(primary, cut, room.lastUsable) : primary.array;
  const common = { ...header, lastUsable: room.lastUsable, entriesCrc: arrayCrc(array) };
  const newPrimary = { ...common, alternateLba: room.backupLba };
  const newBackup = {
    ...common,
    myLba: room.backupLba,
    alternateLba: GPT_HEADER_LBA,
    entriesLba: room.backupArrayLba,
  };
  const at = (lba: number): number => lba * sectorSize;
  const steps: Edit[][] = [
    [
      { offset: at(room.backupArrayLba), bytes: array },
      { offset: at(room.backupLba), bytes: encodeGptHeader(newBackup, sectorSize) },
    ],
    [
      ...(cut.length > 0 ? [{ offset: at(header.entriesLba), bytes: array }] : []),
      { offset: at(GPT_HEADER_LBA), bytes: encodeGptHeader(newPrimary, sectorSize) },
    ],
    [...protectiveMbr(table, options.size), ...eraseOld(table, at(room.backupArrayLba))],
  ];
  return { steps: steps.filter((step) => step.length > 0), cut, end: at(room.lastUsable + 1) };
}
