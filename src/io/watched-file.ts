/**
 * A file that tells before each change which of its bytes may change, and when that is over.
 *
 * Invariants: whatever can change a byte goes through `watch`; what is not named here is not there, so a new way
 * to change a file is missing rather than unseen. Whoever changes the file through `fd` says so (`changing`).
 */
import type { ByteRange, FileFingerprint, FileKind, RandomAccessFile } from './random-access-file.js';

/** Called before bytes change; what it returns, when they are what they will be. */
export type Watch = (offset: number, length: number) => () => void;

export class WatchedFile implements RandomAccessFile {
  readonly path: string;
  readonly kind: FileKind;
  readonly writable: boolean;
  readonly punch?: (offset: number, length: number) => Promise<boolean>;
  readonly zeroInPlace?: (offset: number, length: number) => Promise<boolean>;
  readonly peek?: (buffer: Uint8Array, offset: number) => boolean;
  readonly poke?: (buffer: Uint8Array, offset: number) => boolean;
  readonly writeHere?: (buffer: Uint8Array, offset: number) => boolean;
  readonly writeBehind?: (offset: number, length: number) => Promise<void>;
  readonly allocate?: (offset: number, length: number) => Promise<void>;
  readonly #file: RandomAccessFile;
  readonly #watch: Watch;
  readonly #beforeClose: () => Promise<void>;

  /** @param beforeClose is awaited when the file is closed, while it still is open; must not throw */
  constructor(file: RandomAccessFile, watch: Watch, beforeClose: () => Promise<void>) {
    this.path = file.path;
    this.kind = file.kind;
    this.writable = file.writable;
    this.#file = file;
    this.#watch = watch;
    this.#beforeClose = beforeClose;
    const { punch, zeroInPlace, peek, poke, writeHere, writeBehind, allocate } = file;
    if (punch) this.punch = (at, length) => this.#watched(at, length, () => punch.call(file, at, length));
    if (zeroInPlace)
      this.zeroInPlace = (at, length) => this.#watched(at, length, () => zeroInPlace.call(file, at, length));
    if (peek) this.peek = peek.bind(file);
    if (poke) this.poke = (bytes, at) => this.#watchedNow(at, bytes.length, () => poke.call(file, bytes, at));
    if (writeHere)
      this.writeHere = (bytes, at) =>
        this.#watchedNow(at, bytes.length, () => writeHere.call(file, bytes, at));
    if (writeBehind) this.writeBehind = writeBehind.bind(file);
    // No byte shows anything else, but the file's times change.
    if (allocate) this.allocate = (at, length) => this.#watched(at, 0, () => allocate.call(file, at, length));
  }

  get fd(): number | undefined {
    return this.#file.fd;
  }

  changing(offset: number, length: number): () => void {
    return this.#watch(offset, length);
  }

  write(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#watched(offset, buffer.length, () => this.#file.write(buffer, offset));
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#watched(offset, length, () => this.#file.zero(offset, length));
  }

  truncate(size: number): Promise<void> {
    const before = this.#file.size();
    const start = Math.min(before, size);
    return this.#watched(start, Math.max(before, size) - start, () => this.#file.truncate(size));
  }

  async close(): Promise<void> {
    await this.#beforeClose();
    await this.#file.close();
  }

  size(): number {
    return this.#file.size();
  }

  read(buffer: Uint8Array, offset: number): Promise<number> {
    return this.#file.read(buffer, offset);
  }

  flush(): Promise<void> {
    return this.#file.flush();
  }

  nextData(offset: number, end: number): ByteRange | undefined {
    return this.#file.nextData(offset, end);
  }

  allocatedBytes(): Promise<number> {
    return this.#file.allocatedBytes();
  }

  fingerprint(): FileFingerprint | undefined {
    return this.#file.fingerprint();
  }

  async #watched<T>(offset: number, length: number, change: () => Promise<T>): Promise<T> {
    const end = this.#watch(offset, length);
    try {
      return await change();
    } finally {
      end();
    }
  }
  #watchedNow(offset: number, length: number, change: () => boolean): boolean {
    const end = this.#watch(offset, length);
    try {
      return change();
    } finally {
      end();
    }
  }
}
