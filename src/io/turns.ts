/**
 * Turns: short pieces of work that processes of one host do one after the other, never two at once.
 *
 * Two means. Where the system's file locks can be called, a turn is a lock of an open file: it costs a microsecond
 * or two, and ends with its process. Elsewhere it is a lock file that is taken anew for every turn
 * (lock-file.ts), which costs about a millisecond.
 *
 * Invariant: the work of a turn is synchronous, so within a process nothing else comes between, and nobody waits
 * for another turn of his own process. Those who share turns must have the same means: the two do not see
 * each other.
 */
import { closeSync, constants, openSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fromSystemError, isVhdkitError } from '../base/errors.js';
import { systemTimer } from '../base/timer.js';
import { Errno, errnoError, nativeCalls } from '../native/native.js';
import { takeLock } from './lock-file.js';

/** Turns that are had at once or waited for on the spot. */
export interface LockTurns extends Turns {
  take<T>(work: () => T): T;
}

export interface Turns {
  /** Does the work when it is its turn. Blocks this thread until then, or returns a promise. @throws IO_FAILED */
  take<T>(work: () => T): T | Promise<T>;
  close(): void;
}

/** Milliseconds. */
const WAIT = 2;
const PATIENCE = 60_000;

/** @param path a file for this only; made, with mode 0600. @throws PERMISSION_DENIED, NO_SPACE, IO_FAILED */
export function openTurns(path: string): Turns {
  return lockTurns(path, 0o600) ?? fileTurns(path);
}

/**
 * By the system's locks only; undefined where there are none, or none on this file system.
 * @param path any file; its content is not looked at
 * @param mode with which it is made; undefined: it is there
 * @throws NOT_FOUND, PERMISSION_DENIED, NO_SPACE, IO_FAILED
 */
export function lockTurns(path: string, mode: number | undefined): LockTurns | undefined {
  const native = nativeCalls();
  if (!native) return undefined;
  let fd: number;
  try {
    fd = openSync(
      path,
      mode === undefined ? constants.O_RDONLY : constants.O_RDONLY | constants.O_CREAT,
      mode,
    );
  } catch (error) {
    throw fromSystemError(error, 'open file', { path });
  }
  const wait = (): number => {
    for (;;) {
      const errno = native.waitForFile(fd);
      if (errno !== Errno.EINTR) return errno;
    }
  };
  if (wait() !== 0) {
    closeSync(fd);
    return undefined;
  }
  native.leaveFile(fd);
  return {
    take(work) {
      const errno = wait();
      if (errno !== 0) throw fromSystemError(errnoError(errno, 'flock'), 'lock file', { path });
      try {
        return work();
      } finally {
        native.leaveFile(fd);
      }
    },
    close: () => closeSync(fd),
  };
}

/** Turns of this process by lock file: those who want the same wait here, because the lock names a process only. */
const queues = new Map<string, Promise<unknown>>();

/** By lock files beside `path`, which itself is not made. Exported for tests. */
export function fileTurns(path: string): Turns {
  const lock = join(realpathSync(dirname(path)), `${basename(path)}.holder`);
  return {
    take(work) {
      const before = queues.get(lock) ?? Promise.resolve();
      const turn = before.then(() => withLockFile(lock, path, work));
      const settled = turn.then(
        () => undefined,
        () => undefined,
      );
      queues.set(lock, settled);
      void settled.then(() => queues.get(lock) === settled && queues.delete(lock));
      return turn;
    },
    close: () => undefined,
  };
}

async function withLockFile<T>(path: string, what: string, work: () => T): Promise<T> {
  const began = systemTimer.now();
  for (;;) {
    try {
      const lock = await takeLock(path, what);
      try {
        return work();
      } finally {
        await lock.release();
      }
    } catch (error) {
      const isTaken = isVhdkitError(error) && error.code === 'IN_USE' && error.context.path === what;
      if (!isTaken || systemTimer.now() - began > PATIENCE) throw error;
    }
    await systemTimer.sleep(WAIT);
  }
}
