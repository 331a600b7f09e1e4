/**
 * What the page cache is to do with a file.
 *
 * posix_fadvise(2) with DONTNEED drops a file's clean pages from the page cache, so that the next read
 * comes from the storage. Pages that were not flushed stay; so does what lives in memory anyway (tmpfs).
 * sync_file_range(2) with WRITE starts writing dirty pages without waiting for them: no guarantee of
 * anything, but a later fsync finds less to do.
 */
import type { Library } from './library.js';

const DONTNEED = 4;

const WRITE = 2;

export interface PageCacheCalls {
  /** Starts writing dirty pages of the range to storage, without waiting for it; 0 or an errno. */
  startWriteback(fd: number, offset: number, length: number): Promise<number>;
  /** Drops the file's clean pages from memory; 0 or an errno. */
  dropPageCache(fd: number): number;
}

export function pageCacheCalls(library: Library): PageCacheCalls {
  const fadvise = library.call('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');
  const syncRange = library.call(
    'int sync_file_range(int fd, int64_t offset, int64_t length, unsigned int flags)',
  );
  return {
    // Length 0 means up to the end. The result is the errno itself, errno is not set.
    dropPageCache: (fd) => fadvise.now(fd, 0, 0, DONTNEED),
    // It waits where the device's queue is full.
    startWriteback: async (fd, offset, length) => -(await syncRange.later(fd, offset, length, WRITE)) || 0,
  };
}
