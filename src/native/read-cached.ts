/**
 * preadv2(2) with RWF_NOWAIT: reads what is in the page cache, and nothing else, without waiting.
 *
 * Always on the calling thread: a 4 KiB read takes well under a microsecond, where a trip through the
 * thread pool takes thirty.
 */
import { ioVector } from './io-vector.js';
import type { Library } from './library.js';

const RWF_NOWAIT = 8;

export interface ReadCachedCalls {
  /** Bytes read from memory alone (fewer than asked where the rest is not there) or −errno (EAGAIN: none). */
  readCached(fd: number, buffer: Uint8Array, offset: number): number;
}

export function readCachedCalls(library: Library): ReadCachedCalls {
  const preadv2 = library.call(
    'int64_t preadv2(int fd, void *vectors, int count, int64_t offset, int flags)',
  );
  const vectorOf = ioVector(library);
  return {
    readCached: (fd, buffer, offset) => preadv2.now(fd, vectorOf(buffer), 1, offset, RWF_NOWAIT),
  };
}
