/**
 * A file whose old bytes are saved in a journal before they are changed.
 *
 * Invariant: a byte that was there when the journal began is in it, durably, before it is written over, zeroed
 * or cut off. The journal is made with the first change: a file that is only read leaves none.
 *
 * No descriptor is handed out, so nothing changes the file past this.
 */
import type { BackupJournal } from './backup-journal.js';
import type { ByteRange, FileFingerprint, FileKind, RandomAccessFile } from './random-access-file.js';

/** Sorted ranges `[from, to)` that neither overlap nor touch. */
class SavedRanges {
  #ranges: (readonly [number, number])[] = [];

  /** The parts of `[from, to)` that are not there yet. */
  missing(from: number, to: number): [number, number][] {
    const gaps: [number, number][] = [];
    let at = from;
    for (const [start, end] of this.#ranges) {
      if (end <= at) continue;
      if (start >= to) break;
      if (start > at) gaps.push([at, start]);
      at = end;
    }
    if (at < to) gaps.push([at, to]);
    return gaps;
  }

  add(from: number, to: number): void {
    const apart = this.#ranges.filter(([start, end]) => end < from || start > to);
    const joined = this.#ranges.filter(([start, end]) => end >= from && start <= to);
    const first = Math.min(from, ...joined.map(([start]) => start));
    const last = Math.max(to, ...joined.map(([, end]) => end));
    this.#ranges = [...apart, [first, last] as const].sort(([a], [b]) => a - b);
  }

  [Symbol.iterator](): Iterator<readonly [number, number]> {
    return this.#ranges[Symbol.iterator]();
  }
}

export class BackupFile implements RandomAccessFile {
  readonly kind: FileKind;
  readonly writable = true;
  readonly fd = undefined;
  readonly path: string;
  readonly punch?: (offset: number, length: number) => Promise<boolean>;
  readonly #base: RandomAccessFile;
  readonly #begin: () => Promise<BackupJournal>;
  readonly #saved: SavedRanges;
  /** What was there at the beginning ends here. */
  readonly #size: number;
  #turn: Promise<void> = Promise.resolve();

  /**
   * @param begin the journal, made when it is not there; called before each change
   * @param earlier the same file as it was opened before: what it saved is saved
   */
  constructor(base: RandomAccessFile, begin: () => Promise<BackupJournal>, earlier?: BackupFile) {
    this.#base = base;
    this.#begin = begin;
    this.#size = earlier ? earlier.#size : base.size();
    this.#saved = earlier ? earlier.#saved : new SavedRanges();
    this.path = base.path;
    this.kind = base.kind;
    const punch = base.punch?.bind(base);
    if (punch) {
      this.punch = async (offset, length) => {
        await this.save(offset, length);
        return punch(offset, length);
      };
    }
  }

  /** Ranges that were saved, in file order: `[from, to)`. */
  get saved(): Iterable<readonly [number, number]> {
    return this.#saved;
  }

  /** Saves what the range holds, unless it was saved before. Durable when it returns. */
  save(offset: number, length: number): Promise<void> {
    const saving = this.#turn.then(() => this.#save(offset, Math.min(offset + length, this.#size)));
    // A failure is told to whoever waits for it, not to the next one.
    this.#turn = saving.catch(() => undefined);
    return saving;
  }

  async #save(from: number, to: number): Promise<void> {
    const journal = await this.#begin();
    for (const [start, end] of this.#saved.missing(from, to)) {
      await journal.save(this.#base, start, end);
      this.#saved.add(start, end);
    }
  }

  size(): number {
    return this.#base.size();
  }

  read(buffer: Uint8Array, offset: number): Promise<number> {
    return this.#base.read(buffer, offset);
  }

  async write(buffer: Uint8Array, offset: number): Promise<void> {
    await this.save(offset, buffer.length);
    await this.#base.write(buffer, offset);
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.save(offset, length);
    await this.#base.zero(offset, length);
  }

  async truncate(size: number): Promise<void> {
    await this.save(size, Math.max(0, this.#size - size));
    await this.#base.truncate(size);
  }

  flush(): Promise<void> {
    return this.#base.flush();
  }

  nextData(offset: number, end: number): ByteRange | undefined {
    return this.#base.nextData(offset, end);
  }

  allocatedBytes(): Promise<number> {
    return this.#base.allocatedBytes();
  }

  fingerprint(): FileFingerprint | undefined {
    return this.#base.fingerprint();
  }

  /** Closes the file; the journal is its owner's. */
  close(): Promise<void> {
    return this.#base.close();
  }
}
