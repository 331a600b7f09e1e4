/**
 * How a file lies on its file system: the number of physical extents.
 *
 * Invariant: neighbours that follow each other physically count as one; holes break nothing by themselves.
 * Undefined where the system or the file system does not say.
 */
import { isVhdkitError } from '../base/errors.js';
import { nativeCalls } from '../native/native.js';
import type { RandomAccessFile } from './random-access-file.js';

/** Bytes asked for at a time: bounds the list of extents in memory. */
const STEP = 16 * 1024 * 1024 * 1024;

/** Runs of physically contiguous extents of a file; undefined where nothing tells. */
export function countPhysicalExtents(file: RandomAccessFile): number | undefined {
  const native = nativeCalls();
  if (!native || file.fd === undefined || file.kind !== 'file') return undefined;
  let count = 0;
  let logical = -1;
  let physical = -1;
  try {
    for (let at = 0; at < file.size(); at += STEP) {
      for (const extent of native.fiemap(file.fd, at, Math.min(STEP, file.size() - at))) {
        // One extent is answered by each of two questions that meet in it.
        if (extent.logical < logical) continue;
        // A hole between two extents leaves a gap on the disk as large as the hole, or none.
        if (extent.physical !== physical) count += 1;
        logical = extent.logical + extent.length;
        physical = extent.physical + extent.length;
      }
    }
  } catch (error) {
    if (isVhdkitError(error) && error.code === 'UNSUPPORTED') return undefined;
    throw error;
  }
  return count;
}
