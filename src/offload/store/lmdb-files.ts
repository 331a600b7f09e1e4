/**
 * Which tokens of an LMDB store stand for which file: found by the file's number, without a walk over all.
 *
 * Invariant: changes in the same transaction as the records, so every record that names a file is found. What
 * is found is looked up in the records; of two files with one number (on other devices) both answer.
 */
import type { Database, Key, RootDatabase } from 'lmdb';
import { inodeOf, type TokenRecord } from './token-store.js';

const NOTHING = Buffer.alloc(0);
const BATCH = 256;

export class LmdbFiles {
  /** `[number in decimal, id]`, nothing. */
  readonly #tokens: Database<Buffer, Key>;

  constructor(root: RootDatabase<Buffer, string>) {
    this.#tokens = root.openDB<Buffer, Key>({ name: 'files', encoding: 'binary', cache: false });
  }

  /** In a transaction. */
  add(record: TokenRecord): void {
    const inode = inodeOf(record);
    if (inode !== undefined) this.#tokens.putSync([String(inode), record.id], NOTHING);
  }

  /** In a transaction. What can't be read any more stays here, and nothing is found by it. */
  remove(read: () => TokenRecord): void {
    let record: TokenRecord;
    try {
      record = read();
    } catch {
      return;
    }
    const inode = inodeOf(record);
    if (inode !== undefined) this.#tokens.removeSync([String(inode), record.id]);
  }

  /** Ids of a file's tokens, a batch at a time; each batch is looked up anew. */
  *of(inode: bigint, look: <T>(work: () => T) => T): Generator<string[]> {
    const number = String(inode);
    for (let after = ''; ; ) {
      const start = [number, after];
      const range = { start, end: [number, '\u{10ffff}'], exclusiveStart: true, limit: BATCH };
      const batch = look(() => Array.from(this.#tokens.getKeys(range), (key) => (key as string[])[1] ?? ''));
      if (batch.length > 0) yield batch;
      after = batch.at(-1) ?? '';
      if (batch.length < BATCH) return;
    }
  }
}
