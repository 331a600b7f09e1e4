/**
 * The whole content of an attribute: its pieces collected through attribute lists, readable by offset.
 *
 * Invariants: the pieces follow each other without gaps and come from records that belong to the file;
 * sizes fit the clusters there are; the list of pieces is bounded by NTFS's own limit for attribute lists.
 * Not here: compressed and encrypted content, which is never needed and refused.
 */
import { KiB } from '../../base/bytes.js';
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { safeU64, viewOf } from '../volume-bytes.js';
import {
  ATTRIBUTE,
  type Attribute,
  attributesOf,
  type FileRecord,
  firstVcn,
  instanceOf,
  isNamed,
  isTransformed,
  nonResidentPiece,
  type Piece,
  referenceAt,
  residentValue,
} from './record.js';
import { type Run, readThroughRuns } from './runs.js';

const MAX_ATTRIBUTE_LIST = 256 * KiB;
const SMALLEST_LIST_ENTRY = 26;

/** What is needed of a volume to follow attributes. */
export interface NtfsVolume {
  /** Offsets from the volume's start. */
  read: ReadBytes;
  clusterBytes: number;
  clusters: number;
  /** A verified file record. @throws IMAGE_CORRUPT (inconsistent) */
  record(number: number): Promise<FileRecord>;
}

export interface Stream {
  /** Bytes. Past `initialised` the content is zeros whatever is stored. */
  size: number;
  initialised: number;
  /** Empty for resident content. */
  runs: readonly Run[];
  /** Inside `size` only. */
  read: ReadBytes;
}

interface ListEntry {
  lowestVcn: number;
  record: number;
  instance: number;
}

function residentStream(value: Uint8Array): Stream {
  const read: ReadBytes = async (offset, length) => {
    if (offset + length > value.length) throw inconsistent('a file is read past its end');
    return value.subarray(offset, offset + length);
  };
  return { size: value.length, initialised: value.length, runs: [], read };
}

function checkSizes(head: Piece, runs: readonly Run[], clusterBytes: number): void {
  const last = runs.at(-1);
  const held = last ? (last.vcn + last.count) * clusterBytes : 0;
  if (head.allocated !== held || head.size > held || head.initialised > head.size)
    throw inconsistent('a system file has sizes that do not fit its clusters');
}

/** Attribute list entries of unnamed attributes of a type. Layout: type 0, length 4, name length 6, VCN 8, reference 16, instance 24. */
function listEntries(list: Uint8Array, type: number): ListEntry[] {
  const view = viewOf(list);
  const entries: ListEntry[] = [];
  for (let at = 0; at + SMALLEST_LIST_ENTRY <= list.length; ) {
    const length = view.getUint16(at + 4, true);
    if (length < SMALLEST_LIST_ENTRY || at + length > list.length)
      throw inconsistent('an attribute list is damaged');
    if (view.getUint32(at, true) === type && view.getUint8(at + 6) === 0) {
      entries.push({
        lowestVcn: safeU64(view, at + 8, 'a first cluster'),
        record: referenceAt(view, at + 16),
        instance: view.getUint16(at + 24, true),
      });
    }
    at += length;
  }
  return entries;
}

async function readList(volume: NtfsVolume, list: Attribute): Promise<Uint8Array> {
  if (list.isResident) return residentValue(list);
  const piece = nonResidentPiece(list, volume.clusters);
  checkSizes(piece, piece.runs, volume.clusterBytes);
  if (piece.size > MAX_ATTRIBUTE_LIST) throw inconsistent('an attribute list is too long');
  return readThroughRuns(volume.read, piece.runs, volume.clusterBytes)(0, piece.size);
}

/** The piece of an attribute that a list entry names. */
async function pieceOf(
  volume: NtfsVolume,
  base: FileRecord,
  type: number,
  entry: ListEntry,
): Promise<Attribute> {
  const record = entry.record === base.number ? base : await volume.record(entry.record);
  if (record !== base && (!record.inUse || record.base !== base.number))
    throw inconsistent(`file record ${entry.record} does not belong to file ${base.number}`);
  for (const attribute of attributesOf(record))
    if (attribute.type === type && !isNamed(attribute) && instanceOf(attribute) === entry.instance)
      return attribute;
  throw inconsistent(`file record ${entry.record} lacks an attribute`);
}

/** Pieces of the unnamed attribute of a type, in order; more come from an attribute list. */
async function* pieces(volume: NtfsVolume, base: FileRecord, type: number): AsyncGenerator<Attribute> {
  let list: Attribute | undefined;
  let first: Attribute | undefined;
  for (const attribute of attributesOf(base)) {
    if (attribute.type === ATTRIBUTE.attributeList) list = attribute;
    else if (attribute.type === type && !isNamed(attribute)) first ??= attribute;
  }
  if (!list) {
    if (first) yield first;
    return;
  }
  // The first piece of $MFT is what its other records are found by, so it is taken before the list is read.
  if (first && (first.isResident || firstVcn(first) === 0)) yield first;
  else first = undefined;
  const entries = listEntries(await readList(volume, list), type);
  entries.sort((a, b) => a.lowestVcn - b.lowestVcn);
  for (const [index, entry] of entries.entries()) {
    const piece = await pieceOf(volume, base, type, entry);
    if (index === 0 && first && piece.record === base && piece.at === first.at) continue;
    yield piece;
  }
}

/**
 * The unnamed attribute of a type of a file; undefined when it has none.
 * @param runs filled while the pieces are found: those of $MFT are needed to find the rest of them
 * @throws IMAGE_CORRUPT (inconsistent)
 */
export async function openStream(
  volume: NtfsVolume,
  base: FileRecord,
  type: number,
  runs: Run[] = [],
): Promise<Stream | undefined> {
  let head: Piece | undefined;
  let end = 0;
  for await (const attribute of pieces(volume, base, type)) {
    if (isTransformed(attribute)) throw inconsistent('a system file is compressed, encrypted or sparse');
    if (attribute.isResident) {
      if (head) throw inconsistent('a file is both resident and not');
      return residentStream(residentValue(attribute));
    }
    const piece = nonResidentPiece(attribute, volume.clusters);
    if (piece.vcns.first !== end) throw inconsistent('the pieces of a file do not fit together');
    head ??= piece;
    end = piece.vcns.end;
    runs.push(...piece.runs);
  }
  if (!head) return undefined;
  checkSizes(head, runs, volume.clusterBytes);
  const { size, initialised } = head;
  const stored = readThroughRuns(volume.read, runs, volume.clusterBytes);
  const read: ReadBytes = async (offset, length) => {
    if (offset + length > size) throw inconsistent('a file is read past its end');
    const bytes = await stored(offset, length);
    return offset + length > initialised ? bytes.fill(0, Math.max(0, initialised - offset)) : bytes;
  };
  return { size, initialised, runs, read };
}
