/**
 * copy_file_range(2): copies inside the kernel, or inside the storage where the file system can.
 *
 * One call moves at most 2 GiB minus a page; callers loop. Always asynchronous: there is no upper bound
 * on how long it takes.
 */
import type { Library } from './library.js';

export interface CopyFileRangeCalls {
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
}

function offsetPointer(offset: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt(offset), true);
  return bytes;
}

export function copyFileRangeCalls(library: Library): CopyFileRangeCalls {
  const copy = library.call(
    'int64_t copy_file_range(int in, void *in_offset, int out, void *out_offset, size_t length, unsigned int flags)',
  );
  return {
    // The kernel judges the pair of files before it looks at the length.
    probeCopy: (sourceFd, targetFd) =>
      -copy.now(sourceFd, offsetPointer(0), targetFd, offsetPointer(0), 0, 0) || 0,
    copyFileRange: (sourceFd, sourceOffset, targetFd, targetOffset, length) =>
      copy.later(sourceFd, offsetPointer(sourceOffset), targetFd, offsetPointer(targetOffset), length, 0),
  };
}
