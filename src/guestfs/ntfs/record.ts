/**
 * Records protected by fix-ups (`FILE`, `RSTR`), and the attributes of file records.
 *
 * Invariants: no byte of a record is interpreted before its update sequence was verified; an attribute
 * lies inside the used part of its record; numbers are safe integers.
 */
import { inconsistent } from '../inconsistent.js';
import { safeU64, viewOf } from '../volume-bytes.js';
import { decodeRuns, type Run } from './runs.js';

/** Fix-ups are laid every 512 bytes, whatever the sector size. */
const STRIDE = 512;
const END_OF_ATTRIBUTES = 0xffffffff;

export const ATTRIBUTE = {
  attributeList: 0x20,
  fileName: 0x30,
  volumeInformation: 0x70,
  data: 0x80,
  bitmap: 0xb0,
} as const;

/** Compressed, encrypted or sparse. */
const TRANSFORMED = 0x0001 | 0x4000 | 0x8000;

export interface FileRecord {
  number: number;
  /** The used part, fix-ups undone. */
  bytes: Uint8Array;
  view: DataView;
  inUse: boolean;
  /** The record this one extends; 0 for a base record (and for an extension of record 0). */
  base: number;
}

/** An attribute of a record; its content is decoded by `residentValue` or `nonResidentPiece`. */
export interface Attribute {
  record: FileRecord;
  /** Where it begins in the record, and its length, in bytes. */
  at: number;
  length: number;
  type: number;
  isResident: boolean;
}

/** What a non-resident attribute's piece says of itself. */
export interface Piece {
  /** Clusters of the attribute that this piece covers: the first, and the end (exclusive). */
  vcns: { first: number; end: number };
  runs: Run[];
  /** Bytes; only in the first piece, else zeros. */
  allocated: number;
  size: number;
  initialised: number;
}

/** The four letters that records begin with. */
export function signatureOf(bytes: Uint8Array): string {
  return String.fromCharCode(bytes[0] ?? 0, bytes[1] ?? 0, bytes[2] ?? 0, bytes[3] ?? 0);
}

/**
 * Verifies the update sequence and puts the replaced bytes back; answers with a copy, or undefined when
 * the record was torn. (Multi-sector header: offset of the array u16 @4, its entries u16 @6.)
 */
export function undoFixUps(record: Uint8Array): Uint8Array | undefined {
  const bytes = record.slice();
  const view = viewOf(bytes);
  const array = view.getUint16(4, true);
  const entries = view.getUint16(6, true);
  if (entries !== bytes.length / STRIDE + 1 || array % 2 !== 0 || array < 8) return undefined;
  if (array + entries * 2 > STRIDE - 2) return undefined;
  const expected = view.getUint16(array, true);
  for (let entry = 1; entry < entries; entry += 1) {
    const at = entry * STRIDE - 2;
    if (view.getUint16(at, true) !== expected) return undefined;
    view.setUint16(at, view.getUint16(array + entry * 2, true), true);
  }
  return bytes;
}

/** A file reference: record number in the low 48 bits. */
export function referenceAt(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32;
}

/** @throws IMAGE_CORRUPT (inconsistent) */
export function decodeRecord(raw: Uint8Array, number: number): FileRecord {
  if (signatureOf(raw) !== 'FILE') throw inconsistent(`file record ${number} is not one`);
  const bytes = undoFixUps(raw);
  if (!bytes) throw inconsistent(`file record ${number} was written in part`);
  const view = viewOf(bytes);
  const used = view.getUint32(24, true);
  if (used > bytes.length || used < 48 || view.getUint32(28, true) !== bytes.length)
    throw inconsistent(`file record ${number} has an impossible size`);
  return {
    number,
    bytes: bytes.subarray(0, used),
    view,
    inUse: (view.getUint16(22, true) & 1) !== 0,
    base: referenceAt(view, 32),
  };
}

/** The attributes of a record. @throws IMAGE_CORRUPT (inconsistent) */
export function* attributesOf(record: FileRecord): Generator<Attribute> {
  const { number, view } = record;
  const end = record.bytes.length;
  const damaged = () => inconsistent(`file record ${number} has a damaged attribute`);
  let at = view.getUint16(20, true);
  if (at < 42 || at % 8 !== 0) throw damaged();
  for (;;) {
    if (at + 4 > end) throw damaged();
    const type = view.getUint32(at, true);
    if (type === END_OF_ATTRIBUTES) return;
    if (at + 24 > end) throw damaged();
    const length = view.getUint32(at + 4, true);
    const form = view.getUint8(at + 8);
    if (length < 24 || length % 8 !== 0 || at + length > end || form > 1) throw damaged();
    yield { record, at, length, type, isResident: form === 0 };
    at += length;
  }
}

/** Tells the attributes of a record apart. */
export function instanceOf({ record, at }: Attribute): number {
  return record.view.getUint16(at + 14, true);
}

export function isNamed({ record, at }: Attribute): boolean {
  return record.view.getUint8(at + 9) !== 0;
}

/** Compressed, encrypted or sparse. */
export function isTransformed({ record, at }: Attribute): boolean {
  return (record.view.getUint16(at + 12, true) & TRANSFORMED) !== 0;
}

/** The content of a resident attribute. @throws IMAGE_CORRUPT (inconsistent) */
export function residentValue({ record, at, length }: Attribute): Uint8Array {
  const size = record.view.getUint32(at + 16, true);
  const value = record.view.getUint16(at + 20, true);
  if (value < 24 || value + size > length)
    throw inconsistent(`file record ${record.number} has a damaged attribute`);
  return record.bytes.subarray(at + value, at + value + size);
}

/** The first cluster that a non-resident attribute's piece covers. @throws IMAGE_CORRUPT (inconsistent) */
export function firstVcn({ record, at, length }: Attribute): number {
  if (length < 64) throw inconsistent(`file record ${record.number} has a short attribute`);
  return safeU64(record.view, at + 16, 'a first cluster');
}

/**
 * A non-resident attribute's piece. Layout: first VCN 16, last VCN 24 (−1: no clusters), run list's offset
 * u16 32, allocated 40, size 48, initialised 56.
 * @param clusters of the volume
 * @throws IMAGE_CORRUPT (inconsistent)
 */
export function nonResidentPiece(attribute: Attribute, clusters: number): Piece {
  const { record, at, length } = attribute;
  const { view, bytes, number } = record;
  const first = firstVcn(attribute);
  const isEmpty = view.getInt32(at + 28, true) === -1 && view.getInt32(at + 24, true) === -1;
  const end = isEmpty ? 0 : safeU64(view, at + 24, 'a last cluster') + 1;
  const pairs = view.getUint16(at + 32, true);
  if (end < first || pairs < 64 || pairs >= length)
    throw inconsistent(`file record ${number} has a damaged run list`);
  const field = (offset: number) => (first === 0 ? safeU64(view, at + offset, 'a file size') : 0);
  const vcns = { first, end };
  return {
    vcns,
    runs: decodeRuns(bytes.subarray(at + pairs, at + length), vcns, clusters),
    allocated: field(40),
    size: field(48),
    initialised: field(56),
  };
}
