/**
 * A source file without its holes: for transfers that are not to look for them.
 *
 * A merge finds holes itself and cuts its ranges at sectors; a session that cut them again, where the file
 * system's blocks end, would ask the target for parts of sectors.
 */
import type { ByteRange, FileFingerprint, FileKind, RandomAccessFile } from '../../io/random-access-file.js';

class WholeFile implements RandomAccessFile {
  readonly path: string;
  readonly kind: FileKind;
  readonly writable: boolean;
  readonly fd: number | undefined;
  /** Without it the kernel would not be let copy: zeros would have to be looked for by reading all. */
  readonly peek?: (buffer: Uint8Array, offset: number) => boolean;
  readonly #file: RandomAccessFile;

  constructor(file: RandomAccessFile) {
    this.path = file.path;
    this.kind = file.kind;
    this.writable = file.writable;
    this.fd = file.fd;
    this.#file = file;
    if (file.peek) this.peek = file.peek.bind(file);
  }

  nextData(offset: number, end: number): ByteRange | undefined {
    return offset < end ? { offset, length: end - offset } : undefined;
  }

  size(): number {
    return this.#file.size();
  }

  read(buffer: Uint8Array, offset: number): Promise<number> {
    return this.#file.read(buffer, offset);
  }

  write(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#file.write(buffer, offset);
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#file.zero(offset, length);
  }

  truncate(size: number): Promise<void> {
    return this.#file.truncate(size);
  }

  flush(): Promise<void> {
    return this.#file.flush();
  }

  allocatedBytes(): Promise<number> {
    return this.#file.allocatedBytes();
  }

  fingerprint(): FileFingerprint | undefined {
    return this.#file.fingerprint();
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** Hands out one view per file, so that a session sees each file once. */
export class WholeFiles {
  readonly #views = new Map<RandomAccessFile, RandomAccessFile>();

  of(file: RandomAccessFile): RandomAccessFile {
    let view = this.#views.get(file);
    if (!view) {
      view = new WholeFile(file);
      this.#views.set(file, view);
    }
    return view;
  }
}
