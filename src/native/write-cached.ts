/**
 * pwritev2(2) with RWF_NOWAIT: writes into the page cache without waiting, where the file system can
 * (XFS, btrfs; ext4 can't and says so).
 *
 * Always on the calling thread, as reading in read-cached.ts. It waits for nothing: neither for pages to be
 * read or written, nor for storage to be found, nor because much is dirty already.
 */
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
  const vector = new Uint8Array(16);
  const view = new DataView(vector.buffer);
  return {
    writeCached(fd, buffer, offset) {
      view.setBigUint64(0, library.address(buffer), true);
      view.setBigUint64(8, BigInt(buffer.length), true);
      return pwritev2.now(fd, vector, 1, offset, RWF_NOWAIT);
    },
  };
}
