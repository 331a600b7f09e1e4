/**
 * How files are opened: injected, so that chains and operations run on memory in tests.
 *
 * Deliberately small: no directory walking beyond what finding a parent by name needs.
 */
import type { RandomAccessFile } from './random-access-file.js';

export interface OpenOptions {
  writable?: boolean;
  /** Refuse a device that is mounted or otherwise held (O_EXCL). */
  exclusive?: boolean;
}

export interface FileIdentity {
  device: bigint;
  inode: bigint;
}

/** A file that gets its final name only when it is complete. */
export interface PendingFile {
  readonly file: RandomAccessFile;
  /** Flushes, closes, renames to the final name and flushes the folder. */
  publish(): Promise<void>;
  /** Closes and removes the unfinished file. Safe to call after publish (does nothing then). */
  discard(): Promise<void>;
}

export interface FileSystem {
  /** @throws NOT_FOUND, PERMISSION_DENIED, NOT_A_DISK, IN_USE, IO_FAILED */
  open(path: string, options?: OpenOptions): Promise<RandomAccessFile>;
  /** 'absent' when nothing is there. */
  kind(path: string): Promise<'file' | 'device' | 'other' | 'absent'>;
  /** What tells two paths to the same file; undefined when nothing is there. */
  identity(path: string): Promise<FileIdentity | undefined>;
  /** Names in a folder; empty when it can't be read. */
  list(folder: string): Promise<string[]>;
  /**
   * Starts a new file that will appear under `path` when published. Nothing is visible under `path` before.
   * @throws ALREADY_EXISTS unless `overwrite`; NOT_FOUND when the folder is not there
   */
  createPending(path: string, options?: { overwrite?: boolean }): Promise<PendingFile>;
}
