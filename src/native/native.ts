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
import { type FileLockCalls, fileLockCalls } from './file-lock.js';
import { type Library, library, libraryUnavailableReason } from './library.js';
import { type PageCacheCalls, pageCacheCalls } from './page-cache.js';
import { type ReadCachedCalls, readCachedCalls } from './read-cached.js';
import { type SeekCalls, seekCalls } from './seek.js';
import { type WriteCachedCalls, writeCachedCalls } from './write-cached.js';

export { XFS } from './clone-range.js';
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
    WriteCachedCalls,
    FiemapCalls,
    FileLockCalls {}

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
    ...writeCachedCalls(loaded),
    ...fiemapCalls(loaded),
    ...fileLockCalls(loaded),
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
