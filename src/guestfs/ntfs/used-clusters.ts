/**
 * Compares all files of an NTFS volume with its allocation bitmap.
 *
 * Invariant: when this passes, every cluster of every file (streams, folders, system files, attribute
 * lists) is marked used in $Bitmap, no matter which of the two is damaged; a cluster that two files hold is
 * noticed by the sum. Each record brings its own run lists, so attribute lists need not be followed.
 * Memory is flat; the time is that of reading the master file table once.
 */
import { allUsed } from '../bitmap-ranges.js';
import { inconsistent, reasonOf } from '../inconsistent.js';
import { PagedBytes, viewOf } from '../volume-bytes.js';
import { FILE, type Mft } from './mft.js';
import {
  ATTRIBUTE,
  type Attribute,
  attributesOf,
  decodeRecord,
  type FileRecord,
  nonResidentPiece,
  referenceAt,
  residentValue,
  signatureOf,
} from './record.js';
import type { Stream } from './stream.js';

/** Bytes of the table read at a time. */
const WINDOW = 256 * 1024;

export interface FilesSeen {
  /** Clusters that all files hold together. */
  clusters: number;
  /** Base records of the files called hiberfil.sys in the root folder. */
  hibernation: number[];
  /**
   * Windows keeps shadow copies (restore points) here. They read what has not changed since from the volume
   * itself: also clusters of files that were deleted since, which $Bitmap calls free.
   */
  hasShadowCopies: boolean;
}

/**
 * What Windows calls the file with the old content of a volume's blocks: two GUIDs, the second of which is
 * that of the snapshot provider.
 */
const SHADOW_COPY = /^\{[0-9a-f-]{36}\}\{3808876b-c176-4e48-b7ae-04046e6cc752\}$/;
const SHADOW_COPY_LENGTH = 76;
const HIBERNATION = 'hiberfil.sys';

interface NamedFile {
  name: string;
  folder: number;
}

/**
 * The name in a $FILE_NAME (folder 0, length in UTF-16 units 64, name 66) in lower case; undefined for other
 * attributes and for names that nobody here looks for.
 */
function nameOf(attribute: Attribute): NamedFile | undefined {
  if (attribute.type !== ATTRIBUTE.fileName || !attribute.isResident) return undefined;
  const value = residentValue(attribute);
  const length = value[64];
  if (length !== HIBERNATION.length && length !== SHADOW_COPY_LENGTH) return undefined;
  const name = Buffer.from(value.subarray(66, 66 + length * 2)).toString('utf16le');
  return { name: name.toLowerCase(), folder: referenceAt(viewOf(value), 0) };
}

function isHibernationFile(attribute: Attribute): boolean {
  const file = nameOf(attribute);
  return file?.name === HIBERNATION && file.folder === FILE.root;
}

/** The file that a record belongs to. */
function fileOf({ number, base }: FileRecord): number {
  return base === 0 ? number : base;
}

async function checkRecord(mft: Mft, record: FileRecord, bitmap: PagedBytes, seen: FilesSeen): Promise<void> {
  for (const attribute of attributesOf(record)) {
    if (isHibernationFile(attribute)) seen.hibernation.push(fileOf(record));
    if (SHADOW_COPY.test(nameOf(attribute)?.name ?? '')) seen.hasShadowCopies = true;
    if (attribute.isResident) continue;
    for (const { lcn, count } of nonResidentPiece(attribute, mft.clusters).runs) {
      if (lcn === undefined) continue;
      if (!(await allUsed(bitmap, { start: lcn, count })))
        throw inconsistent(`file record ${record.number} holds clusters that $Bitmap calls free`);
      seen.clusters += count;
    }
  }
}

/** A file record as it is stored, and whether $MFT's own bitmap calls it used. */
interface StoredRecord {
  number: number;
  bytes: Uint8Array;
  isMarked: boolean;
}

async function* storedRecords(mft: Mft): AsyncGenerator<StoredRecord> {
  const { recordBytes, records } = mft;
  // The records' bits come in whole bytes.
  const perWindow = Math.max(8, Math.floor(WINDOW / recordBytes));
  for (let from = 0; from < records; from += perWindow) {
    const count = Math.min(perWindow, records - from);
    const window = await mft.stream.read(from * recordBytes, count * recordBytes);
    const inUse = await mft.inUse.read(from / 8, Math.ceil(count / 8));
    for (let index = 0; index < count; index += 1) {
      const bytes = window.subarray(index * recordBytes, (index + 1) * recordBytes);
      const isMarked = ((inUse[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
      yield { number: from + index, bytes, isMarked };
    }
  }
}

/** A record that nobody uses may hold anything; one that was torn says so by its signature. */
function isUsed({ bytes, isMarked }: StoredRecord): boolean {
  const signature = signatureOf(bytes);
  if (isMarked || signature === 'BAAD') return true;
  return signature === 'FILE' && (viewOf(bytes).getUint16(22, true) & 1) !== 0;
}

/**
 * Walks all file records.
 * @param bitmap content of $Bitmap
 * @throws IMAGE_CORRUPT (inconsistent) when a file holds a cluster that is not marked used
 */
export async function checkFiles(mft: Mft, bitmap: Stream): Promise<FilesSeen> {
  const marks = new PagedBytes(bitmap.read, bitmap.size);
  const seen: FilesSeen = { clusters: 0, hibernation: [], hasShadowCopies: false };
  for await (const stored of storedRecords(mft))
    if (isUsed(stored)) await checkRecord(mft, decodeRecord(stored.bytes, stored.number), marks, seen);
  return seen;
}

/** File records of hiberfil.sys on a volume that is not in order; damaged records are passed over. */
export async function findHibernationFiles(mft: Mft): Promise<number[]> {
  const found: number[] = [];
  for await (const stored of storedRecords(mft)) {
    try {
      if (!isUsed(stored)) continue;
      const record = decodeRecord(stored.bytes, stored.number);
      for (const attribute of attributesOf(record))
        if (isHibernationFile(attribute)) found.push(fileOf(record));
    } catch (error) {
      if (reasonOf(error) === undefined) throw error;
    }
  }
  return found;
}
