/**
 * The data of persistent tokens: kept as it was at binding, given back with the last token that needs it.
 *
 * Invariant: the record that names a place is in the store before anything is put there, and is removed
 * after it; whatever crashes, the store knows all that is kept. A record whose data is not complete has no
 * fingerprint and resolves to nothing.
 */
import { isVhdkitError, VhdkitError } from '../base/errors.js';
import type { DataKeeper } from '../io/data-keeper.js';
import type { FileFingerprint, RandomAccessFile } from '../io/random-access-file.js';
import type { TokenRecord, TokenStore } from './store/token-store.js';
import { invalid } from './token-refusal.js';

export function persistentUnsupported(file: RandomAccessFile): VhdkitError {
  return new VhdkitError(
    'UNSUPPORTED',
    `No persistent token for ${file.path}: nothing here keeps old data when the file changes`,
    {
      operation: 'bind token',
      context: { path: file.path },
      hint: 'Ask for a change-vulnerable token, which is refused once the file changes.',
    },
  );
}

/** Kept data changes its `ctime` whenever another token begins or ceases to need it; nothing else of it changes. */
export function samePersistent(a: FileFingerprint, b: FileFingerprint): boolean {
  return a.mtime === b.mtime && a.size === b.size && a.inode === b.inode;
}

export class PersistentData {
  readonly #store: TokenStore;
  readonly #keeper: DataKeeper;

  constructor(store: TokenStore, keeper: DataKeeper) {
    this.#store = store;
    this.#keeper = keeper;
  }

  placeFor(source: string, id: string): string {
    return this.#keeper.placeFor(source, id);
  }

  /**
   * Keeps the file's data for a record that is in the store, and completes it.
   * @param shared a complete record whose data this one is to share; without it the file is cloned now
   * @param admit does the change of the store that says how much is kept, making room for it if need be
   * @throws UNSUPPORTED, NO_SPACE, TOKEN_LIMIT, PERMISSION_DENIED, IO_FAILED; then nothing is kept and the record
   *   is gone
   */
  async keep(
    file: RandomAccessFile,
    record: TokenRecord & { keptPath: string },
    revision: number,
    shared: TokenRecord | undefined,
    admit: (keptBytes: number, change: () => Promise<number | undefined>) => Promise<number | undefined>,
  ): Promise<TokenRecord> {
    try {
      const complete = { ...record, ...(await this.#fill(file, record.keptPath, shared)) };
      const change = () => this.#store.update(complete, revision);
      if ((await admit(complete.keptBytes ?? 0, change)) === undefined) throw invalid('revoked');
      return complete;
    } catch (error) {
      // Under a name that was taken lies what somebody else keeps.
      const isTaken = isVhdkitError(error) && error.code === 'ALREADY_EXISTS';
      if (!isTaken) await this.#keeper.release(record.keptPath);
      await this.#store.delete(record.id);
      throw error;
    }
  }

  /** Gives back what is kept for a record. */
  async release({ keptPath }: TokenRecord): Promise<void> {
    if (keptPath !== undefined) await this.#keeper.release(keptPath);
  }

  async #fill(
    file: RandomAccessFile,
    place: string,
    shared: TokenRecord | undefined,
  ): Promise<Pick<TokenRecord, 'fingerprint' | 'keptBytes'>> {
    if (shared?.keptPath !== undefined && shared.fingerprint) {
      await this.#keeper.share(shared.keptPath, place);
      return { fingerprint: shared.fingerprint, keptBytes: 0 };
    }
    const { fingerprint, bytes } = await this.#keeper.keep(file, place);
    return { fingerprint, keptBytes: bytes };
  }
}
