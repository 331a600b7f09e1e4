/**
 * FICLONERANGE: makes a range of one file share the extents of another (`ioctl_ficlonerange(2)`), FIGETBSZ, whose
 * answer is the unit in which that is possible, and fstatfs(2), which tells the kind of file system.
 *
 * Short clones run on the calling thread, because a trip through the thread pool costs more than the call
 * itself; every so often one goes through the pool anyway, so that a long run of them lets timers, signals
 * and cancellation in.
 */
import type { Library } from './library.js';

const FICLONERANGE = 0x4020940d;
const FIGETBSZ = 0x2;
/** A contiguous range of this size is cloned in about 15 µs; a badly fragmented one in milliseconds. */
const SHORT = 2 * 1024 * 1024;
/** `struct statfs` of 64-bit systems takes 120 bytes and begins with `f_type`. */
const STATFS_BYTES = 256;
const SYNCHRONOUS_IN_A_ROW = 64;
/** Beyond the end of every file, and aligned to nothing. */
const IMPOSSIBLE_OFFSET = 2n ** 60n + 1n;

export interface CloneCalls {
  /** FICLONERANGE; resolves to 0 or an errno. */
  cloneRange(
    sourceFd: number,
    sourceOffset: number,
    length: number,
    targetFd: number,
    targetOffset: number,
  ): Promise<number>;
  /**
   * Whether the two regular files can share extents, without side effects: a clone of an impossible range
   * answers EINVAL where sharing works, EOPNOTSUPP or EXDEV and the like elsewhere. Returns the errno.
   */
  probeClone(sourceFd: number, targetFd: number): number;
  /** FIGETBSZ: the file system's block size in bytes or −errno. */
  fileSystemBlockSize(fd: number): number;
  /** fstatfs(2): the magic number of the file system (linux/magic.h), or −errno. */
  fileSystemType(fd: number): number;
}

/** XFS_SUPER_MAGIC. */
export const XFS = 0x58465342;

/** struct file_clone_range of linux/fs.h. */
function encode(sourceFd: number, sourceOffset: bigint, length: bigint, targetOffset: bigint): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setBigInt64(0, BigInt(sourceFd), true);
  view.setBigUint64(8, sourceOffset, true);
  view.setBigUint64(16, length, true);
  view.setBigUint64(24, targetOffset, true);
  return bytes;
}

export function cloneCalls(library: Library): CloneCalls {
  const ioctl = library.call('int ioctl(int fd, unsigned long request, void *argument)');
  const fstatfs = library.call('int fstatfs(int fd, void *result)');
  let inARow = 0;
  return {
    async cloneRange(sourceFd, sourceOffset, length, targetFd, targetOffset) {
      const argument = encode(sourceFd, BigInt(sourceOffset), BigInt(length), BigInt(targetOffset));
      inARow += 1;
      if (length <= SHORT && inARow < SYNCHRONOUS_IN_A_ROW) {
        return -ioctl.now(targetFd, FICLONERANGE, argument) || 0;
      }
      inARow = 0;
      return -(await ioctl.later(targetFd, FICLONERANGE, argument)) || 0;
    },
    probeClone(sourceFd, targetFd) {
      const argument = encode(sourceFd, IMPOSSIBLE_OFFSET, 1n, 1n);
      return -ioctl.now(targetFd, FICLONERANGE, argument) || 0;
    },
    fileSystemBlockSize(fd) {
      const bytes = new Uint8Array(4);
      const result = ioctl.now(fd, FIGETBSZ, bytes);
      return result < 0 ? result : new DataView(bytes.buffer).getUint32(0, true);
    },
    fileSystemType(fd) {
      const bytes = new Uint8Array(STATFS_BYTES);
      const result = fstatfs.now(fd, bytes);
      return result < 0 ? result : new DataView(bytes.buffer).getUint32(0, true);
    },
  };
}
