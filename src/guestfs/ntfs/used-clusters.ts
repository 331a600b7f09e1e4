/**
 * Compares all files of an NTFS volume with its allocation bitmap.
 *
 * Invariant: when this passes, every cluster of every file (streams, folders, system files, attribute
 * lists) is marked used in $Bitmap, no matter which of the two is damaged; a cluster that two files hold is
 * noticed by the sum. Each record brings its own run lists, so attribute lists need not be followed.
 * Memory is flat; the time is that of reading the master file table once.
 */
import { allUsed } from '../bitmap-ranges.js';
import { inconsistent } from '../inconsistent.js';
import { PagedBytes, viewOf } from '../volume-bytes.js';
import { FILE, type Mft } from './mft.js';
import {
  ATTRIBUTE,
  type Attribute,
  attributesOf,
  decodeRecord,
  type FileRecord,
  referenceAt,
  runsOf,
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
}

/** $FILE_NAME: folder 0, length of the name in UTF-16 units 64, name 66. */
function isHibernationFile({ value }: Attribute & { resident: true }): boolean {
  const view = viewOf(value);
  if (value.length < 66 || referenceAt(view, 0) !== FILE.root) return false;
  const name = Buffer.from(value.subarray(66, 66 + view.getUint8(64) * 2)).toString('utf16le');
  return name.toLowerCase() === 'hiberfil.sys';
}

async function checkRecord(mft: Mft, record: FileRecord, bitmap: PagedBytes, seen: FilesSeen): Promise<void> {
  for (const attribute of attributesOf(record)) {
    if (attribute.resident) {
      if (attribute.type === ATTRIBUTE.fileName && isHibernationFile(attribute))
        seen.hibernation.push(record.base === 0 ? record.number : record.base);
      continue;
    }
    for (const { lcn, count } of runsOf(attribute, mft.clusters)) {
      if (lcn === undefined) continue;
      if (!(await allUsed(bitmap, { start: lcn, count })))
        throw inconsistent(`file record ${record.number} holds clusters that $Bitmap calls free`);
      seen.clusters += count;
    }
  }
}

/**
 * Walks all file records.
 * @param bitmap content of $Bitmap
 * @throws IMAGE_CORRUPT (inconsistent) when a file holds a cluster that is not marked used
 */
export async function checkFiles(mft: Mft, bitmap: Stream): Promise<FilesSeen> {
  const { recordBytes, records } = mft;
  const marks = new PagedBytes(bitmap.read, bitmap.size);
  const seen: FilesSeen = { clusters: 0, hibernation: [] };
  // The records' bits come in whole bytes.
  const perWindow = Math.max(8, Math.floor(WINDOW / recordBytes));
  for (let from = 0; from < records; from += perWindow) {
    const count = Math.min(perWindow, records - from);
    const window = await mft.stream.read(from * recordBytes, count * recordBytes);
    const inUse = await mft.inUse.read(from / 8, Math.ceil(count / 8));
    for (let index = 0; index < count; index += 1) {
      const bytes = window.subarray(index * recordBytes, (index + 1) * recordBytes);
      const isMarked = ((inUse[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
      // A record that nobody uses may hold anything; one that was torn says so by its signature.
      const signature = signatureOf(bytes);
      if (!isMarked && signature !== 'FILE' && signature !== 'BAAD') continue;
      if (!isMarked && signature === 'FILE' && (viewOf(bytes).getUint16(22, true) & 1) === 0) continue;
      await checkRecord(mft, decodeRecord(bytes, from + index), marks, seen);
    }
  }
  return seen;
}
