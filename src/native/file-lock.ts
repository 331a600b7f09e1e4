/**
 * Locks of an open file description: of single bytes, fcntl(2) with F_OFD_SETLK, and of a whole file, flock(2).
 *
 * They belong to one open() of a file, so two opens exclude each other whether in one process or in two, and
 * they go away with the last descriptor: a process that is killed holds nothing. Bytes need not exist.
 * For a byte nobody waits: whoever finds it taken asks again. The two kinds know nothing of each other.
 */
import type { Library } from './library.js';

const F_OFD_SETLK = 37;
const F_WRLCK = 1;
const F_UNLCK = 2;
/** struct flock: i16 type, i16 whence, i64 start at 8, i64 length at 16, i32 pid at 24 (0 for OFD locks). */
const FLOCK_BYTES = 32;
const LOCK_EX = 2;
const LOCK_UN = 8;

export interface FileLockCalls {
  /** Takes one byte exclusively; 0, EAGAIN or EACCES where another open file has it, or another errno. */
  lockByte(fd: number, offset: bigint): number;
  /** Gives it back; 0 or an errno. */
  unlockByte(fd: number, offset: bigint): number;
  /** Takes the whole file exclusively, and blocks until whoever has it gives it back; 0 or an errno (EINTR). */
  waitForFile(fd: number): number;
  /** Gives it back; 0 or an errno. */
  leaveFile(fd: number): number;
}

export function fileLockCalls(library: Library): FileLockCalls {
  const fcntl = library.call('int fcntl(int fd, int command, void *argument)');
  const flock = library.call('int flock(int fd, int operation)');
  const apply = (fd: number, type: number, offset: bigint): number => {
    const bytes = new Uint8Array(FLOCK_BYTES);
    const view = new DataView(bytes.buffer);
    view.setInt16(0, type, true);
    view.setBigInt64(8, offset, true);
    view.setBigInt64(16, 1n, true);
    return -fcntl.now(fd, F_OFD_SETLK, bytes) || 0;
  };
  return {
    lockByte: (fd, offset) => apply(fd, F_WRLCK, offset),
    unlockByte: (fd, offset) => apply(fd, F_UNLCK, offset),
    waitForFile: (fd) => -flock.now(fd, LOCK_EX) || 0,
    leaveFile: (fd) => -flock.now(fd, LOCK_UN) || 0,
  };
}
