/**
 * posix_fadvise(2) with DONTNEED: drops a file's clean pages from the page cache, so that the next read
 * comes from the storage. Pages that were not flushed stay; so does what lives in memory anyway (tmpfs).
 */
import type { Library } from './library.js';

const DONTNEED = 4;

export interface PageCacheCalls {
  dropPageCache(fd: number): number;
}

export function pageCacheCalls(library: Library): PageCacheCalls {
  const fadvise = library.call('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');
  // Length 0 means up to the end. The result is the errno itself, errno is not set.
  return { dropPageCache: (fd) => fadvise.now(fd, 0, 0, DONTNEED) };
}
