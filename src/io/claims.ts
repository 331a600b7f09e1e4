/**
 * Claims on numbered things of a file (chunks, pages of a map): one holder each, between all users of the
 * file on this host, and for no longer than their processes live.
 *
 * Two means. Where the system has locks of open file descriptions, each claim is the lock of one byte far
 * behind every file's end, and any number of processes share the file. Elsewhere the file has a lock file beside it
 * and one process at a time; claims are then kept in memory.
 *
 * Invariant: a claim is never waited for while the system is asked to wait, so that no thread is tied up; a holder
 * in this process is waited for without asking again. Several network file systems carry these locks between hosts
 * (NFSv4, OCFS2); nothing here relies on it.
 */
import { fromSystemError, VhdkitError } from '../base/errors.js';
import { systemTimer, type Timer } from '../base/timer.js';
import { Errno, errnoError, nativeCalls } from '../native/native.js';
import type { FileSystem, HeldLock } from './file-system.js';
import { lockOwner } from './lock-file.js';
import { hiddenName } from './node-path.js';
import type { RandomAccessFile } from './random-access-file.js';

/** Gives a claim back; calling it twice is harmless. */
export type Release = () => void;

export interface Claims {
  /** Whether other processes can have claims on the same file. */
  readonly shared: boolean;
  /** The claim at once, or undefined where somebody has it. @throws IO_FAILED */
  tryTake(number: number): Release | undefined;
  /** Waits for the claim. @throws IN_USE after a minute, IO_FAILED */
  take(number: number): Promise<Release>;
  /** Gives everything back; the file is closed afterwards. */
  close(): Promise<void>;
}

/** Where claims are to lie in the file: no file reaches that far, and a signed 64-bit offset does. */
const BASE = 1n << 62n;
/** Milliseconds. */
const FIRST_WAIT = 1;
const LONGEST_WAIT = 50;
const PATIENCE = 60_000;

/** What the two means differ in: the system's part of a claim. */
interface Means {
  /** False where another process has it. */
  lock(number: number): boolean;
  unlock(number: number): void;
}

/** Claims by whatever means; those of one process are sorted out here, in the order in which they came. */
class ClaimTable implements Claims {
  readonly shared: boolean;
  readonly #path: string;
  readonly #means: Means | undefined;
  readonly #lockFile: HeldLock | undefined;
  readonly #timer: Timer;
  /** Held numbers, each with those of this process that wait for it. */
  readonly #held = new Map<number, (() => void)[]>();

  constructor(path: string, means: Means | undefined, lockFile: HeldLock | undefined, timer: Timer) {
    this.shared = means !== undefined;
    this.#path = path;
    this.#means = means;
    this.#lockFile = lockFile;
    this.#timer = timer;
  }

  tryTake(number: number): Release | undefined {
    if (this.#held.has(number) || this.#means?.lock(number) === false) return undefined;
    this.#held.set(number, []);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#release(number);
    };
  }

  async take(number: number): Promise<Release> {
    const began = this.#timer.now();
    for (let wait = FIRST_WAIT; ; ) {
      const release = this.tryTake(number);
      if (release) return release;
      const inProcess = this.#held.get(number);
      if (inProcess) await new Promise<void>((resolve) => inProcess.push(resolve));
      else {
        if (this.#timer.now() - began > PATIENCE) throw this.#tooLong();
        await this.#timer.sleep(wait);
        wait = Math.min(2 * wait, LONGEST_WAIT);
      }
    }
  }

  async close(): Promise<void> {
    for (const number of [...this.#held.keys()]) this.#release(number);
    await this.#lockFile?.release();
  }

  #release(number: number): void {
    const waiting = this.#held.get(number);
    if (!waiting) return;
    this.#held.delete(number);
    this.#means?.unlock(number);
    for (const wake of waiting) wake();
  }

  #tooLong(): VhdkitError {
    return new VhdkitError('IN_USE', `${this.#path}: another process works on the same part for too long`, {
      operation: 'lock',
      context: { path: this.#path },
      hint: 'Find out what has the file open (fuser), end it, and try again.',
    });
  }
}

/** Claims that only this process knows of: for files in memory, and for files that nobody else may write. */
export function localClaims(path: string, lockFile?: HeldLock, timer: Timer = systemTimer): Claims {
  return new ClaimTable(path, undefined, lockFile, timer);
}

function systemMeans(path: string, fd: number): Means | undefined {
  const native = nativeCalls();
  if (!native) return undefined;
  const fail = (errno: number): never => {
    throw fromSystemError(errnoError(errno, 'fcntl'), `lock ${path}`, { path });
  };
  return {
    lock(number) {
      const errno = native.lockByte(fd, BASE + BigInt(number));
      if (errno === Errno.EAGAIN || errno === Errno.EACCES) return false;
      return errno === 0 || fail(errno);
    },
    unlock(number) {
      const errno = native.unlockByte(fd, BASE + BigInt(number));
      if (errno !== 0) fail(errno);
    },
  };
}

/**
 * Claims on a file that was opened for writing. Where they can't be shared, nobody else may have the file open
 * for writing at all.
 * @throws IN_USE (by name), PERMISSION_DENIED
 */
export async function openClaims(
  system: FileSystem,
  file: RandomAccessFile,
  timer: Timer = systemTimer,
): Promise<Claims> {
  const { path, fd } = file;
  const means = fd === undefined ? undefined : systemMeans(path, fd);
  if (!means) return new ClaimTable(path, undefined, await system.lock(path), timer);
  // A process that has no such locks keeps everybody else out by a lock file.
  const real = (await system.realPath?.(path)) ?? path;
  const owner = await lockOwner(hiddenName(real, 'lock'));
  if (owner) {
    throw new VhdkitError('IN_USE', `${path} is in use by process ${owner.pid} on ${owner.host}`, {
      operation: 'lock',
      context: { path, pid: owner.pid, host: owner.host },
      hint: 'Wait for it to end.',
    });
  }
  return new ClaimTable(path, means, undefined, timer);
}
