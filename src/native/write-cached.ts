/**
 * pwritev2(2) with RWF_NOWAIT: writes into the page cache without waiting, where the file system can
 * (XFS, btrfs; ext4 can't and says so).
 *
 * Always on the calling thread, as reading in read-cached.ts. It waits for nothing: neither for pages to be
 * read or written, nor for storage to be found, nor because much is dirty already.
 */
import { ioVector } from './io-vector.js';
import type { Library } from './library.js';

const RWF_NOWAIT = 8;

export interface WriteCachedCalls {
  /** Bytes written (fewer than given where the rest would have to wait) or −errno (EAGAIN: none). */
  writeCached(fd: number, buffer: Uint8Array, offset: number): number;
}

export function writeCachedCalls(library: Library): WriteCachedCalls {
  const pwritev2 = library.call(
    'int64_t pwritev2(int fd, void *vectors, int count, int64_t offset, int flags)',
  );
  const vectorOf = ioVector(library);
  return {
    writeCached: (fd, buffer, offset) => pwritev2.now(fd, vectorOf(buffer), 1, offset, RWF_NOWAIT),
  };
}
