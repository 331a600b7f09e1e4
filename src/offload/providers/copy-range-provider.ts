/**
 * The kernel copy provider: copy_file_range moves the bytes inside the kernel, or inside the storage
 * (NFS and SMB servers, file systems that share extents).
 *
 * Holes of the source may become data in the target: callers refine ranges by holes before. File systems that can share
 * extents do so instead of copying, but only from block to block: what must not be shared begins with one byte.
 */
import { fromSystemError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { Errno } from '../../native/native.js';
import type { OffloadCapabilities, OffloadProvider, OffloadWriteResult } from '../offload-provider.js';
import {
  incapable,
  isUnsupported,
  kernelError,
  kernelPair,
  type RangeMove,
  rangeProvider,
  reasonOf,
  unsupported,
  unsupportedBy,
} from '../provider-base.js';
import type { TokenManager } from '../token-manager.js';

/** Bounds the wait for progress and cancellation; a call costs some 30 µs beside the copying. */
const MAX_LENGTH = 128 * 1024 * 1024;
const MAX_INTERRUPTIONS = 8;
/** No file system shares less. */
const SMALLEST_BLOCK = 512;

function capabilities(source: RandomAccessFile, target: RandomAccessFile): OffloadCapabilities {
  const pair = kernelPair(source, target);
  if (typeof pair === 'string') return incapable(pair);
  const errno = pair.native.probeCopy(pair.sourceFd, pair.targetFd);
  if (errno !== 0) return incapable(reasonOf(errno));
  return { supported: true, alignment: 1, maxLength: MAX_LENGTH };
}

/** What the kernel's answer means, other than "interrupted". */
async function settle(range: RangeMove, length: number, answer: number): Promise<OffloadWriteResult> {
  const { source, sourceOffset, target, targetOffset } = range;
  if (answer > 0) return { status: 'done', length: answer };
  if (answer === 0) {
    // Some virtual file systems answer so although there are bytes.
    if (source.size() > sourceOffset) return unsupported('the kernel copies nothing from this file', 'files');
    await target.zero(targetOffset, length);
    return { status: 'done', length };
  }
  if (isUnsupported(-answer)) return unsupportedBy(-answer);
  throw fromSystemError(kernelError(-answer, 'copy_file_range'), `copy to ${target.path}`, {
    path: target.path,
    source: source.path,
    sourceOffset,
    offset: targetOffset,
    length,
  });
}

/** Bytes of one call. */
function lengthOf({ sourceOffset, targetOffset, length, apart = false }: RangeMove): number {
  const sharable = [sourceOffset, targetOffset].every((offset) => offset % SMALLEST_BLOCK === 0);
  return apart && sharable ? 1 : Math.min(length, MAX_LENGTH);
}

async function move(range: RangeMove): Promise<OffloadWriteResult> {
  const { source, sourceOffset, target, targetOffset } = range;
  const pair = kernelPair(source, target);
  if (typeof pair === 'string') return unsupported(pair, 'files');
  const length = lengthOf(range);
  let answer: number = -Errno.EINTR;
  for (let attempt = 0; attempt < MAX_INTERRUPTIONS && answer === -Errno.EINTR; attempt += 1) {
    answer = await pair.native.copyFileRange(
      pair.sourceFd,
      sourceOffset,
      pair.targetFd,
      targetOffset,
      length,
    );
  }
  return settle(range, length, answer);
}

export function copyRangeProvider(manager: TokenManager): OffloadProvider {
  return rangeProvider(manager, { id: 'kernel', capabilities, move });
}
