/**
 * The system calls that Node does not offer, behind one interface.
 *
 * Invariants: importing this loads nothing; on systems without them `nativeCalls()` is undefined and
 * everything still works by reading and writing. Calls answer with numbers (an errno, or a negated one)
 * and never throw for what the system refuses, except `fiemap`.
 *
 * Deliberately no policy: which call is tried when, and what an errno means, is decided above.
 */
import { type BlockDeviceCalls, blockDeviceCalls } from './block-device.js';
import { type CloneCalls, cloneCalls } from './clone-range.js';
import { type CopyFileRangeCalls, copyFileRangeCalls } from './copy-file-range.js';
import { type FallocateCalls, fallocateCalls } from './fallocate.js';
import { type FiemapCalls, fiemapCalls } from './fiemap.js';
import { type Library, library, libraryUnavailableReason } from './library.js';
import { type PageCacheCalls, pageCacheCalls } from './page-cache.js';
import { type ReadCachedCalls, readCachedCalls } from './read-cached.js';
import { type SeekCalls, seekCalls } from './seek.js';

export { Errno, errnoError, errnoName } from './errno.js';
export { type FiemapExtent, FiemapFlag } from './fiemap.js';

/** Offsets and lengths are bytes and safe integers. */
export interface NativeCalls
  extends CloneCalls,
    CopyFileRangeCalls,
    SeekCalls,
    FallocateCalls,
    BlockDeviceCalls,
    PageCacheCalls,
    ReadCachedCalls,
    FiemapCalls {
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
  /** Whether the kernel copies between the two files, without side effects: an empty copy. Returns the errno. */
  probeCopy(sourceFd: number, targetFd: number): number;
  /** Bytes copied (0 at the end of the source) or −errno. */
  copyFileRange(
    sourceFd: number,
    sourceOffset: number,
    targetFd: number,
    targetOffset: number,
    length: number,
  ): Promise<number>;
  /** Offset of the next stored byte or −errno (ENXIO: none up to the end). */
  seekData(fd: number, offset: number): number;
  /** Offset of the next hole (the end of the file counts as one) or −errno. */
  seekHole(fd: number, offset: number): number;
  /** PUNCH_HOLE | KEEP_SIZE, on block devices too; 0 or an errno. */
  punchHole(fd: number, offset: number, length: number): Promise<number>;
  /** Drops the file's clean pages from memory; 0 or an errno. */
  dropPageCache(fd: number): number;
  /** Starts writing dirty pages of the range to storage, without waiting for it; 0 or an errno. */
  startWriteback(fd: number, offset: number, length: number): Promise<number>;
  /** Bytes read from memory alone (fewer than asked where the rest is not there) or −errno (EAGAIN: none). */
  readCached(fd: number, buffer: Uint8Array, offset: number): number;
  /** BLKZEROOUT, range in multiples of the logical sector; 0 or an errno. */
  blockZeroOut(fd: number, offset: number, length: number): Promise<number>;
  /** BLKGETSIZE64: bytes or −errno. */
  blockDeviceSize(fd: number): number;
  /** BLKSSZGET and BLKPBSZGET in bytes; undefined when it is no block device. */
  blockDeviceSectorSizes(fd: number): { logical: number; physical: number } | undefined;
  /** Physical extents of the range. @throws UNSUPPORTED where the file system can't list them */
  fiemap(fd: number, offset: number, length: number): ReturnType<FiemapCalls['fiemap']>;
}

let calls: NativeCalls | undefined;
let failure: string | undefined;

function bindAll(loaded: Library): NativeCalls {
  return {
    ...cloneCalls(loaded),
    ...copyFileRangeCalls(loaded),
    ...seekCalls(loaded),
    ...fallocateCalls(loaded),
    ...blockDeviceCalls(loaded),
    ...pageCacheCalls(loaded),
    ...readCachedCalls(loaded),
    ...fiemapCalls(loaded),
  };
}

/** The calls, or undefined where there are none; loads them the first time. */
export function nativeCalls(): NativeCalls | undefined {
  if (calls || failure !== undefined) return calls;
  const loaded = library();
  try {
    if (loaded) calls = bindAll(loaded);
    else failure = libraryUnavailableReason();
  } catch (error) {
    // A C library that lacks one of the functions.
    failure = `a system call can't be bound: ${error instanceof Error ? error.message : String(error)}`;
  }
  return calls;
}

/** Why `nativeCalls()` is undefined, for messages; undefined when it is not. */
export function nativeUnavailableReason(): string | undefined {
  nativeCalls();
  return failure;
}
