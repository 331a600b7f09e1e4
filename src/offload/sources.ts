/**
 * The source files of one session: one token each, bound on first sight and kept alive until the end.
 *
 * Also knows where a file's holes are, remembering the last stored run: extents come in file order mostly,
 * so many small extents cost one look.
 */
import { BugError } from '../base/assert.js';
import { GiB } from '../base/bytes.js';
import type { ByteRange, RandomAccessFile } from '../io/random-access-file.js';
import type { Token } from './token.js';
import type { TokenManager } from './token-manager.js';

export interface Source {
  readonly file: RandomAccessFile;
  /** Stands for the whole file: offsets within the token are offsets within the file. */
  readonly token: Token;
}

interface OpenSource extends Source {
  unpin: () => void;
}

export class Sources {
  readonly #manager: TokenManager;
  readonly #target: RandomAccessFile;
  readonly #open = new Map<RandomAccessFile, OpenSource>();

  constructor(manager: TokenManager, target: RandomAccessFile) {
    this.#manager = manager;
    this.#target = target;
  }

  /** The source of a file, bound now if it was not yet. */
  async of(file: RandomAccessFile): Promise<Source> {
    return this.#open.get(file) ?? (await this.#bind(file));
  }

  /** @throws SOURCE_CHANGED when any of them is not what it was when it was bound */
  async verifyUnchanged(): Promise<void> {
    for (const { token } of this.#open.values()) await this.#manager.verifyUnchanged(token);
  }

  /** Gives the tokens back. */
  async release(): Promise<void> {
    for (const { token, unpin } of this.#open.values()) {
      unpin();
      await this.#manager.revoke(token);
    }
    this.#open.clear();
  }

  async #bind(file: RandomAccessFile): Promise<Source> {
    // A file that is moved around within itself changes because we change it.
    const watched = file !== this.#target && file.fingerprint() !== undefined;
    const mode = watched ? 'change-vulnerable' : 'point-in-time';
    const { token } = await this.#manager.bind(file, { offset: 0, length: file.size() }, { mode, ttl: 0 });
    const source: OpenSource = { file, token, unpin: this.#manager.pin(token) };
    this.#open.set(file, source);
    return source;
  }
}

const LOOK_AHEAD = GiB;

/** Where a file stores bytes. Only valid while the file does not change. */
export class HoleFinder {
  readonly #last = new Map<RandomAccessFile, ByteRange>();

  /** The first stored run in `[offset, end)`, clipped to it; undefined when there is only a hole. */
  nextData(file: RandomAccessFile, offset: number, end: number): ByteRange | undefined {
    const last = this.#last.get(file);
    if (last && offset >= last.offset && offset < last.offset + last.length) {
      return { offset, length: Math.min(end, last.offset + last.length) - offset };
    }
    // Asked beyond `end`, so that what is remembered reaches far.
    const run = file.nextData(offset, Math.max(end, offset + LOOK_AHEAD));
    if (!run) return undefined;
    if (run.length <= 0 || run.offset < offset)
      throw new BugError(`${file.path} answers with a run behind the question`);
    this.#last.set(file, run);
    if (run.offset >= end) return undefined;
    return { offset: run.offset, length: Math.min(end, run.offset + run.length) - run.offset };
  }
}
