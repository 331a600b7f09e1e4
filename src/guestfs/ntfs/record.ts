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
  bytes: Uint8Array;
  inUse: boolean;
  /** The record this one extends; 0 for a base record (and for an extension of record 0). */
  base: number;
}

interface AttributeHead {
  type: number;
  /** Tells attributes of a record apart. */
  instance: number;
  isNamed: boolean;
  isTransformed: boolean;
}

export interface ResidentAttribute extends AttributeHead {
  resident: true;
  value: Uint8Array;
}

export interface NonResidentAttribute extends AttributeHead {
  resident: false;
  /** Clusters of the attribute that this piece covers: the first, and the end (exclusive). */
  vcns: { first: number; end: number };
  /** Undecoded run list. */
  pairs: Uint8Array;
  /** Bytes; only in the first piece, else zeros. */
  allocated: number;
  size: number;
  initialised: number;
}

export type Attribute = ResidentAttribute | NonResidentAttribute;

export function signatureOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(0, 4)).toString('latin1');
}

/**
 * Verifies the update sequence and puts the replaced bytes back; answers with a copy, or undefined when
 * the record was torn. (Multi-sector header: offset of the array u16 @4, its entries u16 @6.)
 */
export function undoFixUps(record: Uint8Array): Uint8Array | undefined {
  const bytes = Uint8Array.from(record);
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
    inUse: (view.getUint16(22, true) & 1) !== 0,
    base: referenceAt(view, 32),
  };
}

function nonResident(head: AttributeHead, bytes: Uint8Array, record: number): NonResidentAttribute {
  const view = viewOf(bytes);
  if (bytes.length < 64) throw inconsistent(`file record ${record} has a short attribute`);
  const first = safeU64(view, 16, 'a first cluster');
  // −1 stands for "no clusters".
  const last = view.getBigInt64(24, true);
  const end = Number(last) + 1;
  const pairs = view.getUint16(32, true);
  if (!Number.isSafeInteger(end) || end < first || pairs < 64 || pairs >= bytes.length)
    throw inconsistent(`file record ${record} has a damaged run list`);
  const isFirst = first === 0;
  const field = (at: number, what: string) => (isFirst ? safeU64(view, at, what) : 0);
  return {
    ...head,
    resident: false,
    vcns: { first, end },
    pairs: bytes.subarray(pairs),
    allocated: field(40, 'an allocated size'),
    size: field(48, 'a file size'),
    initialised: field(56, 'an initialised size'),
  };
}

/** The attributes of a record. @throws IMAGE_CORRUPT (inconsistent) */
export function* attributesOf({ number, bytes }: FileRecord): Generator<Attribute> {
  const view = viewOf(bytes);
  const damaged = () => inconsistent(`file record ${number} has a damaged attribute`);
  let at = view.getUint16(20, true);
  if (at < 42 || at % 8 !== 0) throw damaged();
  for (;;) {
    if (at + 4 > bytes.length) throw damaged();
    const type = view.getUint32(at, true);
    if (type === END_OF_ATTRIBUTES) return;
    if (at + 24 > bytes.length) throw damaged();
    const length = view.getUint32(at + 4, true);
    if (length < 24 || length % 8 !== 0 || at + length > bytes.length) throw damaged();
    const attribute = bytes.subarray(at, at + length);
    const head: AttributeHead = {
      type,
      instance: view.getUint16(at + 14, true),
      isNamed: view.getUint8(at + 9) !== 0,
      isTransformed: (view.getUint16(at + 12, true) & TRANSFORMED) !== 0,
    };
    const form = view.getUint8(at + 8);
    if (form > 1) throw damaged();
    if (form === 1) {
      yield nonResident(head, attribute, number);
    } else {
      const size = view.getUint32(at + 16, true);
      const value = view.getUint16(at + 20, true);
      if (value < 24 || value + size > length) throw damaged();
      yield { ...head, resident: true, value: attribute.subarray(value, value + size) };
    }
    at += length;
  }
}

/** The runs of a non-resident attribute's piece. @throws IMAGE_CORRUPT (inconsistent) */
export function runsOf(attribute: NonResidentAttribute, clusters: number): Run[] {
  return decodeRuns(attribute.pairs, attribute.vcns, clusters);
}
