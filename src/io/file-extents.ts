/**
 * How a file lies on its file system: where it has storage, and in how many pieces.
 *
 * Invariant: neighbours that follow each other physically count as one; holes break nothing by themselves.
 * Undefined where the system or the file system does not say.
 */
import { isVhdkitError } from '../base/errors.js';
import { type FiemapExtent, type NativeCalls, nativeCalls } from '../native/native.js';
import type { ByteRange, RandomAccessFile } from './random-access-file.js';

/** Bytes asked for at a time: bounds the list of extents in memory. */
const STEP = 1024 * 1024 * 1024;

/** Extents in file order, each once, cut off at the file's end. */
function* extentsOf(native: NativeCalls, fd: number, size: number): Generator<FiemapExtent> {
  let end = 0;
  for (let at = 0; at < size; at += STEP) {
    for (const extent of native.fiemap(fd, at, Math.min(STEP, size - at))) {
      // One extent is answered by each of two questions that meet in it.
      const skip = Math.max(0, end - extent.logical);
      const length = Math.min(extent.length, size - extent.logical) - skip;
      if (length <= 0) continue;
      const { logical, physical, flags } = extent;
      yield { logical: logical + skip, physical: physical + skip, length, flags };
      end = logical + skip + length;
    }
  }
}

/** Runs of physically contiguous extents of a file; undefined where nothing tells. */
export function countPhysicalExtents(file: RandomAccessFile): number | undefined {
  const native = nativeCalls();
  if (!native || file.fd === undefined || file.kind !== 'file') return undefined;
  let count = 0;
  let logical = 0;
  let physical = Number.NEGATIVE_INFINITY;
  try {
    for (const extent of extentsOf(native, file.fd, file.size())) {
      // A hole between two extents leaves a gap on the disk as large as the hole, or none.
      const hole = extent.logical - logical;
      if (extent.physical !== physical && extent.physical !== physical + hole) count += 1;
      logical = extent.logical + extent.length;
      physical = extent.physical + extent.length;
    }
  } catch (error) {
    if (isVhdkitError(error) && error.code === 'UNSUPPORTED') return undefined;
    throw error;
  }
  return count;
}

/**
 * Where a file has storage, reserved but unwritten storage included; neighbours joined. All of the file where
 * nothing tells.
 */
export function* storageRanges(file: RandomAccessFile): Generator<ByteRange> {
  const native = nativeCalls();
  const size = file.size();
  if (!native || file.fd === undefined || file.kind !== 'file') {
    yield { offset: 0, length: size };
    return;
  }
  let open: ByteRange | undefined;
  for (const { logical, length } of extentsOf(native, file.fd, size)) {
    if (open && open.offset + open.length === logical) open.length += length;
    else {
      if (open) yield open;
      open = { offset: logical, length };
    }
  }
  if (open) yield open;
}
