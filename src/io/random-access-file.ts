/**
 * The file contract: what formats, providers and operations need of a file or block device.
 *
 * Implementations: NodeFile (files and devices of the system), MemoryFile (tests, small work),
 * OverlayFile (another file with some of its pages replaced in memory).
 *
 * Invariants: offsets and lengths are bytes and safe integers; `read` delivers everything that exists in
 * the range, so a short count always means end of file; a failed call throws a VhdkitError that names the
 * file. Writing past the end extends a regular file with zeros; a device never grows.
 */

export type FileKind = 'file' | 'device' | 'memory';

/** What identifies a file's content at a moment, to notice that it changed. */
export interface FileFingerprint {
  device: bigint;
  inode: bigint;
  size: bigint;
  /** Nanoseconds. */
  mtime: bigint;
  /** Nanoseconds. */
  ctime: bigint;
}

/** A half-open byte range of a file. */
export interface ByteRange {
  offset: number;
  length: number;
}

export interface RandomAccessFile {
  /** For messages and results; memory files have a made-up name. */
  readonly path: string;
  readonly kind: FileKind;
  readonly writable: boolean;
  /** The system's descriptor where there is one: what extent sharing and kernel copies work on. */
  readonly fd: number | undefined;
  /** Current length in bytes; of a device, its capacity. */
  size(): number;
  /** Fills the buffer from `offset`. Returns the bytes read; fewer than asked only at the end of the file. */
  read(buffer: Uint8Array, offset: number): Promise<number>;
  /** Writes the whole buffer at `offset`. */
  write(buffer: Uint8Array, offset: number): Promise<void>;
  /** Makes the range read as zeros, freeing storage where the system can. */
  zero(offset: number, length: number): Promise<void>;
  /**
   * The same only where it frees storage: false, and nothing was changed, where the system can't. For
   * ranges whose content nobody needs. Absent where storage is not given back piece by piece.
   */
  punch?(offset: number, length: number): Promise<boolean>;
  /**
   * Makes the range, which lies inside the file, read as zeros without writing them and without giving storage
   * back; false, and nothing was changed, where the system can't. Absent where it never can.
   */
  zeroInPlace?(offset: number, length: number): Promise<boolean>;
  /** Sets the length of a regular file. A device refuses (UNSUPPORTED). */
  truncate(size: number): Promise<void>;
  /** Returns when everything written is on stable storage. */
  flush(): Promise<void>;
  /**
   * The first run of stored bytes at or after `offset`, clipped to `end`; undefined when only a hole
   * follows. Storage that can't tell holes answers with the whole rest: data is always safe to assume.
   */
  nextData(offset: number, end: number): ByteRange | undefined;
  /**
   * Fills the buffer with bytes that are in memory, without waiting and without a promise. False when any
   * of them is not there (or does not exist). Absent where the system has no such thing.
   */
  peek?(buffer: Uint8Array, offset: number): boolean;
  /**
   * Writes the buffer into memory, inside the file, without waiting and without a promise. False when that
   * would have to wait; a part may be written then, and the caller writes all of it by `write`. Absent where
   * the system has no such thing.
   */
  poke?(buffer: Uint8Array, offset: number): boolean;
  /**
   * Writes the buffer, inside the file, on the calling thread, which it holds up for as long as the system takes.
   * False when it failed; a part may be written then, and the caller has `write` do it and say why.
   */
  writeHere?(buffer: Uint8Array, offset: number): boolean;
  /**
   * Says that bytes are about to be changed through `fd`; what it returns is called when they have been. Whoever
   * does that calls it where it is there: of files whose changes somebody has to know.
   */
  changing?(offset: number, length: number): () => void;
  /** Starts writing the range to stable storage: a hint, so that a later `flush` finds less to do. */
  writeBehind?(offset: number, length: number): Promise<void>;
  /**
   * Gives every byte of the range storage of its own, without changing what it shows; a regular file grows
   * to the end of the range. Absent where storage is not given out piece by piece (memory).
   * @throws NO_SPACE, IO_FAILED
   */
  allocate?(offset: number, length: number): Promise<void>;
  /** Bytes of storage in use, as far as the system tells. */
  allocatedBytes(): Promise<number>;
  /** Undefined where there is no such thing (memory, devices). */
  fingerprint(): FileFingerprint | undefined;
  close(): Promise<void>;
}
