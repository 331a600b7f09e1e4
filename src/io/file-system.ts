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

export function sameFile(a: FileIdentity, b: FileIdentity): boolean {
  return a.device === b.device && a.inode === b.inode;
}

/** A file that gets its final name only when it is complete. */
export interface PendingFile {
  readonly file: RandomAccessFile;
  /** Flushes, closes, renames to the final name and flushes the folder. */
  publish(): Promise<void>;
  /** Closes and removes the unfinished file. Safe to call after publish (does nothing then). */
  discard(): Promise<void>;
}

/** A pending file that an interrupted run leaves behind on purpose, so that a later one can go on. */
export interface ResumableFile extends PendingFile {
  /** What the interrupted run recorded last; undefined when there is nothing to go on from. */
  readonly journal: string | undefined;
  /** Forgets what an earlier run left: the file is empty again. */
  restart(): Promise<void>;
  /** Records durably how far the work is. What it says must be durable in `file` before. */
  record(journal: string): Promise<void>;
  /** Closes, leaving file and journal for a later run. */
  keep(): Promise<void>;
}

/** An advisory lock that is held until it is released or the process ends. */
export interface HeldLock {
  release(): Promise<void>;
}

/** Who holds a file. */
export interface Holder {
  /** 0 where there is no process, or none that can be seen. */
  pid: number;
  host: string;
  /** The program's name, or with `pid` 0 what it is: `the loop device /dev/loop0`. */
  command?: string;
}

/** `process 4711 (qemu-nbd)`, `the loop device /dev/loop0`, `process 12 on elsewhere`. */
export function holderText({ pid, host, command }: Holder): string {
  if (pid === 0) return command ?? 'another program';
  return command ? `process ${pid} (${command})` : `process ${pid} on ${host}`;
}

export interface FileSystem {
  /** @throws NOT_FOUND, PERMISSION_DENIED, NOT_A_DISK, IN_USE, IO_FAILED */
  open(path: string, options?: OpenOptions): Promise<RandomAccessFile>;
  /** 'absent' when nothing is there. */
  kind(path: string): Promise<'file' | 'device' | 'other' | 'absent'>;
  /** What tells two paths to the same file; undefined when nothing is there. */
  identity(path: string): Promise<FileIdentity | undefined>;
  /** The file's path without links; absent where there are no links. @throws NOT_FOUND, PERMISSION_DENIED */
  realPath?(path: string): Promise<string>;
  /** Names in a folder; empty when it can't be read. */
  list(folder: string): Promise<string[]>;
  /**
   * Starts a new file that will appear under `path` when published. Nothing is visible under `path` before.
   * With `like`, it gets owner, mode and time of modification of the file that it replaces.
   * @throws ALREADY_EXISTS unless `overwrite`; NOT_FOUND when the folder is not there; with `like` UNSUPPORTED
   *   when the old file has other names, which would go on naming it
   */
  createPending(path: string, options?: { overwrite?: boolean; like?: boolean }): Promise<PendingFile>;
  /**
   * The same with a fixed hidden name and a journal beside it. With `resume`, what an interrupted run left is
   * taken up; otherwise it is removed. One process at a time.
   * @throws ALREADY_EXISTS unless `overwrite`; IN_USE while another process works on the same target
   */
  openResumable(path: string, options?: { overwrite?: boolean; resume?: boolean }): Promise<ResumableFile>;
  /**
   * Claims an existing image for writing: others that ask for the same file, by whatever name, are refused
   * until it is released. Refused too while another program is seen to write it or to forbid writing (best
   * effort: QEMU's locks, files open for writing, loop devices).
   * @throws IN_USE with the owner's process id, PERMISSION_DENIED (the folder takes no lock file), NOT_FOUND
   */
  lock(path: string): Promise<HeldLock>;
  /** Who holds the image for writing at this moment, other programs included; undefined when nobody is seen to. */
  holder(path: string): Promise<Holder | undefined>;
  /** Removes a file durably: it stays removed. @throws NOT_FOUND, PERMISSION_DENIED */
  remove(path: string): Promise<void>;
}
