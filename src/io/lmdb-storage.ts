/**
 * Storage for an LMDB file before LMDB needs it, so that a full file system is noticed here and not there.
 *
 * Why: where lmdb-js can't write a page it writes about that into 100 bytes, and past their end (`last_error` in the
 * `mdb_page_flush` of its mdb.c, 3.5.6): what follows in memory is spoilt, and the process may end at any moment.
 *
 * Invariant: a change begins only with storage for all that it may add to the file's end, or is refused before it
 * did anything. Bytes are only ever added behind the file's end, or those taken away again, by whoever has the
 * write transaction; pages that LMDB uses are not touched.
 *
 * Not here: file systems that need storage to overwrite what they have (btrfs); there LMDB may still be refused.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { fromSystemError } from '../base/errors.js';

/** What a small change adds at most: some pages of every tree, split, with what is free in between. */
const CHANGE_BYTES = 128 * 1024;
/** There is this much ahead, as long as the file system has it. */
const MOST_AHEAD = 2 * 1024 * 1024;
const FEWEST_AHEAD = MOST_AHEAD / 2;
const ZEROS = new Uint8Array(CHANGE_BYTES);

/** Those parts of lmdb-js that are used here: of a database, and of what its types do not show. */
interface LmdbRoot {
  getWriteTxnId(): number;
}

interface LmdbFacts {
  info(): { lastPageNumber: number };
  stat(): { pageSize: number };
}

export class LmdbStorage {
  readonly #path: string;
  readonly #root: LmdbRoot;
  readonly #facts: LmdbFacts;
  /** Transactions up to this one, of whatever process, have what they need. */
  #enoughUntil = 0;

  /** @param path of the data file, which LMDB has made */
  constructor(path: string, root: LmdbRoot) {
    this.#path = path;
    this.#root = root;
    this.#facts = (root as unknown as { env: LmdbFacts }).env;
  }

  /**
   * In a write transaction, before it changes anything.
   * @param bytes that it may add and can't be without; 0 for what rather makes room
   * @throws NO_SPACE, PERMISSION_DENIED, IO_FAILED
   */
  prepare(bytes = CHANGE_BYTES): void {
    const now = this.#root.getWriteTxnId();
    if (bytes <= CHANGE_BYTES && now < this.#enoughUntil) return;
    const used = (this.#facts.info().lastPageNumber + 1) * this.#facts.stat().pageSize;
    const ahead = this.#ahead(used, bytes);
    this.#enoughUntil = now + Math.floor(ahead / CHANGE_BYTES);
  }

  /** Bytes behind those that are used, after more were added if that can be. */
  #ahead(used: number, needed: number): number {
    let fd: number | undefined;
    try {
      fd = openSync(this.#path, 'r+');
      const { size } = fstatSync(fd);
      if (size - used >= Math.max(needed, FEWEST_AHEAD)) return size - used;
      for (let more = MOST_AHEAD; size - used < needed + more; more = more > CHANGE_BYTES ? more / 2 : 0) {
        const failure = extend(fd, size, used + needed + more);
        if (!failure) return needed + more;
        if (more === 0) throw failure;
      }
      return size - used;
    } catch (error) {
      throw fromSystemError(error, 'extend file', { path: this.#path });
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }
}

/** All or nothing: returns why not. Written, because not every file system can reserve. */
function extend(fd: number, size: number, end: number): unknown {
  try {
    for (let at = size; at < end; ) at += writeSync(fd, ZEROS, 0, Math.min(ZEROS.length, end - at), at);
    return undefined;
  } catch (error) {
    ftruncateSync(fd, size);
    return error;
  }
}
