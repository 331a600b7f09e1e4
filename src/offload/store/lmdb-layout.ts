/**
 * What an LMDB data file looks like from outside, as far as that has to be known before the library opens it.
 *
 * Invariant: what passes has both meta pages and is as long as the later one says. Not looked at: the pages
 * themselves.
 */
import { storeError } from './store-errors.js';

export const MAX_PAGE_BYTES = 65_536;
const MAGIC = 0xbeefc0de;
/** LMDB's data format: 1 of the releases, 2 of the line that lmdb-js builds. */
const LMDB_VERSION = 2;
/** Pages at the end that LMDB counts but may never have written. */
const UNWRITTEN_PAGES = 8;

/**
 * LMDB maps its file and believes it: one that is too short would end the process. So its two meta pages
 * are looked at first (layout: MDB_page, MDB_meta of lmdb's mdb.c; native byte order, as the library's).
 */
export function assertWhole(folder: string, file: string, start: Uint8Array, size: number): void {
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const damaged = (detail: string) => storeError('damaged', folder, detail);
  if (start.length < 168 || view.getUint32(24, true) !== MAGIC)
    throw damaged(`${file} is no LMDB data file, or its beginning was overwritten`);
  const version = view.getUint32(28, true) & 0xffff;
  if (version !== LMDB_VERSION) {
    if (version > LMDB_VERSION) throw storeError('newer-version', folder, `LMDB's format is ${version}`);
    throw storeError('not-a-store', folder, `${file} was made by another LMDB (format ${version})`);
  }
  const page = view.getUint32(48, true);
  if (page < 512 || page > MAX_PAGE_BYTES || (page & (page - 1)) !== 0 || start.length < page + 168)
    throw damaged(`${file} states pages of ${page} bytes`);
  const latest = view.getBigUint64(152, true) >= view.getBigUint64(page + 152, true) ? 0 : page;
  if (view.getUint32(latest + 24, true) !== MAGIC) throw damaged(`the meta page of ${file} was overwritten`);
  const last = Number(view.getBigUint64(latest + 144, true));
  if ((last + 1 - UNWRITTEN_PAGES) * page > size)
    throw damaged(`${file} ends at ${size} bytes, but it has ${last + 1} pages of ${page}`);
}
