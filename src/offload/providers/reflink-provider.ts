/**
 * The reflink provider: the target's range shares the extents of the source's; no byte is copied.
 *
 * Offsets and lengths are multiples of the file system's block, except that a length may end exactly at
 * the source's end of file when nothing follows it in the target. Dirty pages of the source are written
 * back by the kernel first, so freshly written data costs its write-out.
 */
import { roundDown } from '../../base/bytes.js';
import { fromSystemError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { Errno, XFS } from '../../native/native.js';
import type { OffloadCapabilities, OffloadProvider, OffloadWriteResult } from '../offload-provider.js';
import {
  incapable,
  isUnsupported,
  type KernelPair,
  kernelError,
  kernelPair,
  type RangeMove,
  rangeProvider,
  reasonOf,
  unsupported,
  unsupportedBy,
} from '../provider-base.js';
import type { TokenManager } from '../token-manager.js';

/** Bounds the time of one call on fragmented files (about 16 µs per extent) and the wait for cancellation. */
const MAX_LENGTH = 1024 * 1024 * 1024;
const USUAL_BLOCK = 4096;
const LARGEST_BLOCK = 64 * 1024;
/**
 * XFS overwrites in place, but not what is shared: each block of it moves with its first write, by a transaction of its
 * own, into pieces of 128 KiB that are set aside for that (the default of cowextsize), and every write to a file that shares
 * anything asks what is shared. btrfs writes elsewhere in any case.
 */
const XFS_MOVES = 128 * 1024;

/** Sharing unit of the target's file system. Network file systems report transfer sizes instead: ignored. */
function alignmentOf({ native, targetFd }: KernelPair): number {
  const size = native.fileSystemBlockSize(targetFd);
  return size > USUAL_BLOCK && size <= LARGEST_BLOCK ? size : USUAL_BLOCK;
}

function capabilities(source: RandomAccessFile, target: RandomAccessFile): OffloadCapabilities {
  const pair = kernelPair(source, target);
  if (typeof pair === 'string') return incapable(pair);
  const errno = pair.native.probeClone(pair.sourceFd, pair.targetFd);
  // The probe is an impossible request: whoever could share extents calls it invalid.
  if (errno !== Errno.EINVAL && errno !== 0) return incapable(reasonOf(errno));
  const able = { supported: true, alignment: alignmentOf(pair), maxLength: MAX_LENGTH };
  return pair.native.fileSystemType(pair.sourceFd) === XFS ? { ...able, dearToOverwrite: XFS_MOVES } : able;
}

/** The longest part from the start that can be shared; 0 when the start is not on a block. */
function sharableLength(range: RangeMove, alignment: number): number {
  const { source, sourceOffset, target, targetOffset } = range;
  if (sourceOffset % alignment !== 0 || targetOffset % alignment !== 0) return 0;
  const length = Math.min(range.length, MAX_LENGTH);
  const rest = length % alignment;
  if (rest === 0) return length;
  const endsBoth = sourceOffset + length === source.size() && targetOffset + length >= target.size();
  return endsBoth ? length : roundDown(length, alignment);
}

async function move(range: RangeMove): Promise<OffloadWriteResult> {
  const { source, sourceOffset, target, targetOffset } = range;
  const pair = kernelPair(source, target);
  if (typeof pair === 'string') return unsupported(pair, 'files');
  const length = sharableLength(range, alignmentOf(pair));
  if (length === 0) return unsupported('the range is not aligned to blocks of the file system', 'range');
  const errno = await pair.native.cloneRange(
    pair.sourceFd,
    sourceOffset,
    length,
    pair.targetFd,
    targetOffset,
  );
  if (errno === 0) return { status: 'done', length };
  if (isUnsupported(errno)) return unsupportedBy(errno);
  throw fromSystemError(kernelError(errno, 'FICLONERANGE'), `share extents with ${target.path}`, {
    path: target.path,
    source: source.path,
    sourceOffset,
    offset: targetOffset,
    length,
  });
}

export function reflinkProvider(manager: TokenManager): OffloadProvider {
  return rangeProvider(manager, { id: 'reflink', capabilities, move });
}
