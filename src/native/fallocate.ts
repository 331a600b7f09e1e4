/**
 * fallocate(2): punching holes (the range reads as zeros afterwards and its storage is free), and the
 * opposite, storage for a range that keeps what it shows.
 *
 * KEEP_SIZE is mandatory beside PUNCH_HOLE; on block devices too, where it zeroes by unmapping. Short
 * ranges of files run on the calling thread, long ones (many extents to free) on the pool.
 */
import type { Library } from './library.js';

const KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02;
const KEEP_SIZE_AND_ZERO_RANGE = 0x01 | 0x10;
/** Mode 0: holes become storage that reads as zeros, and the file grows to the end of the range. */
const ALLOCATE = 0;
const SHORT = 1024 * 1024;
const SYNCHRONOUS_IN_A_ROW = 64;

export interface FallocateCalls {
  /** PUNCH_HOLE | KEEP_SIZE, on block devices too; 0 or an errno. */
  punchHole(fd: number, offset: number, length: number): Promise<number>;
  /** ZERO_RANGE | KEEP_SIZE: zeros without storage being given back; 0 or an errno. */
  zeroRange(fd: number, offset: number, length: number): Promise<number>;
  /** Reserves storage for a range of a regular file, which grows if it must; 0 or an errno. */
  allocate(fd: number, offset: number, length: number): Promise<number>;
}

export function fallocateCalls(library: Library): FallocateCalls {
  const fallocate = library.call('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
  let inARow = 0;
  return {
    async punchHole(fd, offset, length) {
      inARow += 1;
      if (length <= SHORT && inARow < SYNCHRONOUS_IN_A_ROW) {
        return -fallocate.now(fd, KEEP_SIZE_AND_PUNCH_HOLE, offset, length) || 0;
      }
      inARow = 0;
      return -(await fallocate.later(fd, KEEP_SIZE_AND_PUNCH_HOLE, offset, length)) || 0;
    },
    async zeroRange(fd, offset, length) {
      return -(await fallocate.later(fd, KEEP_SIZE_AND_ZERO_RANGE, offset, length)) || 0;
    },
    async allocate(fd, offset, length) {
      return -(await fallocate.later(fd, ALLOCATE, offset, length)) || 0;
    },
  };
}
