/**
 * Which tokens of an LMDB store stand for which file: found by the file's number, without a walk over all.
 *
 * Not by one entry a token, which would be a fifth of what binding takes: ids begin with the time, so an entry
 * says that tokens of a file were bound at a moment, and what else was bound then is looked at as well.
 *
 * Invariant: changes in the same transaction as the records, so every record that names a file is found, and a
 * moment's entries go with its last record. What is found is looked up in the records: it may be of
 * another file, and of two files with one number (on other devices) both answer.
 */
import type { Database, Key, RootDatabase } from 'lmdb';
import { ID_TIME_DIGITS, inodeOf, type TokenRecord } from './token-store.js';

const NOTHING = Buffer.alloc(0);
const BATCH = 256;
/** Behind every key that begins alike. */
const LAST = '\u{10ffff}';
/** First element of the keys of the two directions. */
const BY_FILE = 0;
const BY_MOMENT = 1;

type Look = <T>(work: () => T) => T;

function momentOf(id: string): string {
  return id.slice(0, ID_TIME_DIGITS);
}

export class LmdbFiles {
  readonly #tokens: Database<Buffer, string>;
  /** `[BY_FILE, number in decimal, moment]` and `[BY_MOMENT, moment, number]`, nothing. */
  readonly #moments: Database<Buffer, Key>;

  constructor(root: RootDatabase<Buffer, string>, tokens: Database<Buffer, string>) {
    this.#tokens = tokens;
    this.#moments = root.openDB<Buffer, Key>({ name: 'moments', encoding: 'binary', cache: false });
  }

  /** In a transaction. */
  add(record: TokenRecord): void {
    const inode = inodeOf(record);
    if (inode === undefined) return;
    const [number, moment] = [String(inode), momentOf(record.id)];
    if (this.#moments.getBinary([BY_FILE, number, moment])) return;
    this.#moments.putSync([BY_FILE, number, moment], NOTHING);
    this.#moments.putSync([BY_MOMENT, moment, number], NOTHING);
  }

  /** In a transaction, after a record went. */
  removed(id: string): void {
    const moment = momentOf(id);
    if (this.#idsAfter(moment, undefined, 1).length > 0) return;
    const range = { start: [BY_MOMENT, moment], end: [BY_MOMENT, moment, LAST] };
    for (const key of [...this.#moments.getKeys(range)]) {
      this.#moments.removeSync(key);
      this.#moments.removeSync([BY_FILE, lastOf(key), moment]);
    }
  }

  /** Ids among which a file's tokens are, a batch at a time; each batch is looked up anew. */
  *of(inode: bigint, look: Look): Generator<string[]> {
    const number = String(inode);
    for (let after = ''; ; ) {
      const start = [BY_FILE, number, after];
      const range = { start, end: [BY_FILE, number, LAST], exclusiveStart: true, limit: BATCH };
      const moments = look(() => Array.from(this.#moments.getKeys(range), lastOf));
      for (const moment of moments) yield* this.#at(moment, look);
      after = moments.at(-1) ?? '';
      if (moments.length < BATCH) return;
    }
  }

  *#at(moment: string, look: Look): Generator<string[]> {
    for (let after: string | undefined; ; ) {
      const batch = look(() => this.#idsAfter(moment, after, BATCH));
      if (batch.length > 0) yield batch;
      after = batch.at(-1);
      if (batch.length < BATCH) return;
    }
  }

  #idsAfter(moment: string, after: string | undefined, limit: number): string[] {
    // An id that is no longer than a moment is one by itself.
    const end = moment.length < ID_TIME_DIGITS ? `${moment}\0` : moment + LAST;
    const range = { start: after ?? moment, end, exclusiveStart: after !== undefined, limit };
    return Array.from(this.#tokens.getKeys(range));
  }
}

function lastOf(key: Key): string {
  const part = (key as Key[]).at(-1);
  return typeof part === 'string' ? part : '';
}
