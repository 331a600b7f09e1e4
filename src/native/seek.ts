/**
 * lseek(2) with SEEK_DATA and SEEK_HOLE: where a file has stored bytes.
 *
 * It moves the descriptor's position, which nothing here relies on: all reading and writing is positional.
 */
import type { Library } from './library.js';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

export interface SeekCalls {
  /** Offset of the next stored byte or −errno (ENXIO: none up to the end). */
  seekData(fd: number, offset: number): number;
  /** Offset of the next hole (the end of the file counts as one) or −errno. */
  seekHole(fd: number, offset: number): number;
}

export function seekCalls(library: Library): SeekCalls {
  const lseek = library.call('int64_t lseek(int fd, int64_t offset, int whence)');
  return {
    seekData: (fd, offset) => lseek.now(fd, offset, SEEK_DATA),
    seekHole: (fd, offset) => lseek.now(fd, offset, SEEK_HOLE),
  };
}
