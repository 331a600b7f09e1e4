/**
 * Folders of exFAT: entry sets, and the two system files that the root folder names.
 *
 * Invariants: an entry set is used only when its checksum holds and it is complete; entries of a kind that
 * is not known are never passed over, as clusters could belong to them. Source: Microsoft "exFAT file system specification", sections 6 and 7.
 */
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { safeU64, viewOf } from '../volume-bytes.js';

const ENTRY = 32;
const WINDOW = 64 * 1024;

const TYPE = { bitmap: 0x81, upCase: 0x82, label: 0x83, file: 0x85, guid: 0xa0, stream: 0xc0 } as const;
const IN_USE = 0x80;
const SECONDARY = 0x40;
const ALLOCATION_POSSIBLE = 0x01;
const NO_CHAIN = 0x02;
const FOLDER = 0x10;

export interface Allocation {
  first: number;
  /** Bytes. */
  size: number;
  hasChain: boolean;
}

export type FolderItem =
  | { kind: 'bitmap'; isSecond: boolean; allocation: Allocation }
  | { kind: 'upCase'; allocation: Allocation }
  | { kind: 'file' | 'folder'; allocation: Allocation }
  /** Clusters of an entry that belongs to a file and that only its writer understands. */
  | { kind: 'other'; allocation: Allocation };

/** First cluster 20, length 24. */
function allocationAt(entry: Uint8Array, hasChain: boolean): Allocation {
  const view = viewOf(entry);
  return { first: view.getUint32(20, true), size: safeU64(view, 24, 'a file size'), hasChain };
}

/** Over all entries of the set, without the field itself (2, 3). */
function setChecksum(set: Uint8Array): number {
  let sum = 0;
  for (let index = 0; index < set.length; index += 1)
    if (index !== 2 && index !== 3) sum = (((sum & 1) << 15) + (sum >> 1) + (set[index] ?? 0)) & 0xffff;
  return sum;
}

function* itemsOfSet(set: Uint8Array): Generator<FolderItem> {
  const view = viewOf(set);
  if (setChecksum(set) !== view.getUint16(2, true))
    throw inconsistent('the checksum of a file entry is wrong');
  if (set.length < 3 * ENTRY || set[ENTRY] !== TYPE.stream)
    throw inconsistent('a file entry is not complete');
  const isFolder = (view.getUint16(4, true) & FOLDER) !== 0;
  for (let at = ENTRY; at < set.length; at += ENTRY) {
    const entry = set.subarray(at, at + ENTRY);
    const [type = 0, flags = 0] = entry;
    if ((type & (IN_USE | SECONDARY)) !== (IN_USE | SECONDARY))
      throw inconsistent('a file entry is not complete');
    if (at > ENTRY && (flags & ALLOCATION_POSSIBLE) === 0) continue;
    // File names have no allocation; their second byte is flags too and is 0.
    const kind = at > ENTRY ? 'other' : isFolder ? 'folder' : 'file';
    yield { kind, allocation: allocationAt(entry, (flags & NO_CHAIN) === 0) };
  }
}

/** Entries of the root folder that stand alone; undefined for those without clusters. @throws IMAGE_CORRUPT (inconsistent) */
function primaryItem(entry: Uint8Array): FolderItem | undefined {
  const [type = 0, flags = 0] = entry;
  if (type === TYPE.bitmap)
    return { kind: 'bitmap', isSecond: (flags & 1) !== 0, allocation: allocationAt(entry, true) };
  if (type === TYPE.upCase) return { kind: 'upCase', allocation: allocationAt(entry, true) };
  if (type === TYPE.label || type === TYPE.guid) return undefined;
  throw inconsistent('a folder holds an entry that is out of place or not known');
}

/**
 * The items of a folder of `length` bytes, whole clusters. Ends at the end-of-folder mark.
 * @throws IMAGE_CORRUPT (inconsistent)
 */
export async function* folderItems(read: ReadBytes, length: number): AsyncGenerator<FolderItem> {
  let window = new Uint8Array();
  let windowAt = 0;
  const take = async (at: number): Promise<Uint8Array> => {
    if (at + ENTRY > length) throw inconsistent('a file entry is not complete');
    if (at < windowAt || at >= windowAt + window.length) {
      windowAt = at;
      window = Uint8Array.from(await read(at, Math.min(WINDOW, length - at)));
    }
    return window.subarray(at - windowAt, at - windowAt + ENTRY);
  };
  for (let at = 0; at < length; at += ENTRY) {
    const entry = await take(at);
    const [type = 0, secondaries = 0] = entry;
    if (type === 0) return;
    if ((type & IN_USE) === 0) continue;
    if (type === TYPE.file) {
      const set = new Uint8Array((secondaries + 1) * ENTRY);
      for (let index = 0; index <= secondaries; index += 1)
        set.set(await take(at + index * ENTRY), index * ENTRY);
      at += secondaries * ENTRY;
      yield* itemsOfSet(set);
      continue;
    }
    const item = primaryItem(entry);
    if (item) yield item;
  }
}
