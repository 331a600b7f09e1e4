/**
 * The files behind tokens that another process bound: opened anew, by path, as the user of this process.
 *
 * Invariant: a token opens nothing that its holder could not open without it. Each path is opened once and
 * stays open, so that data whose last name goes away while it is used stays readable.
 *
 * Not here: whether the file is still the one that was bound (the manager compares fingerprints).
 */
import { isVhdkitError } from '../base/errors.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { TokenRecord } from './store/token-store.js';
import { invalid, sourceChanged } from './token-refusal.js';

/**
 * Kept data gets and loses names while it is read, as tokens that share it begin and end. That changes its `ctime`,
 * and nothing that a reader has to know of.
 */
function withoutNames(file: RandomAccessFile): RandomAccessFile {
  const fingerprint = file.fingerprint.bind(file);
  file.fingerprint = () => {
    const print = fingerprint();
    return print && { ...print, ctime: print.mtime };
  };
  return file;
}

export class TokenSources {
  readonly #openFile: (path: string) => Promise<RandomAccessFile>;
  readonly #open = new Map<string, Promise<RandomAccessFile>>();

  /** @param openFile opens a path for reading */
  constructor(openFile: (path: string) => Promise<RandomAccessFile>) {
    this.#openFile = openFile;
  }

  /**
   * The file that a record names.
   * @throws PERMISSION_DENIED, SOURCE_CHANGED (nothing is there any more), TOKEN_INVALID (`lost`: kept data;
   *   `bound elsewhere`: nothing tells whether the data is what it was), IO_FAILED
   */
  async open(record: TokenRecord): Promise<RandomAccessFile> {
    if (!record.fingerprint) throw invalid('bound elsewhere');
    const path = record.keptPath ?? record.path;
    let file = this.#open.get(path);
    if (!file) {
      file = this.#openFile(path);
      if (record.keptPath !== undefined) file = file.then(withoutNames);
      this.#open.set(path, file);
    }
    try {
      return await file;
    } catch (error) {
      this.#open.delete(path);
      const gone = isVhdkitError(error) && (error.code === 'NOT_FOUND' || error.code === 'NOT_A_DISK');
      if (!gone) throw error;
      throw record.keptPath === undefined ? sourceChanged(record, 'bound elsewhere') : invalid('lost');
    }
  }

  /** Closes what was opened. */
  async close(): Promise<void> {
    const files = [...this.#open.values()];
    this.#open.clear();
    for (const file of files) await (await file.catch(() => undefined))?.close();
  }
}
