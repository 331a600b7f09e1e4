/**
 * FS_IOC_FIEMAP: which physical extents a range of a file has (kernel documentation, filesystems/fiemap).
 *
 * Asked with FIEMAP_FLAG_SYNC, so that delayed allocations have happened, and page by page, so that memory
 * does not depend on how fragmented the file is.
 */
import { VhdkitError } from '../base/errors.js';
import { errnoError } from './errno.js';
import type { Library, SystemCall } from './library.js';

const FS_IOC_FIEMAP = 0xc020660b;
const FIEMAP_FLAG_SYNC = 1;
const FIEMAP_EXTENT_LAST = 1;
const HEADER = 32;
const EXTENT = 56;
const EXTENTS_PER_CALL = 512;

/** Flags of an extent that say something about sharing and about stored zeros. */
export const FiemapFlag = { unwritten: 0x800, shared: 0x2000 } as const;

/** Offsets and lengths in bytes; `physical` is the place on the file system's device. */
export interface FiemapExtent {
  logical: number;
  physical: number;
  length: number;
  flags: number;
}

export interface FiemapCalls {
  /** Physical extents of the range. @throws UNSUPPORTED where the file system can't list them */
  fiemap(fd: number, offset: number, length: number): FiemapExtent[];
}

function decodeExtent(view: DataView, index: number): FiemapExtent {
  const at = HEADER + index * EXTENT;
  return {
    logical: Number(view.getBigUint64(at, true)),
    physical: Number(view.getBigUint64(at + 8, true)),
    length: Number(view.getBigUint64(at + 16, true)),
    flags: view.getUint32(at + 40, true),
  };
}

function page(ioctl: SystemCall, fd: number, view: DataView, offset: number, length: number): FiemapExtent[] {
  view.setBigUint64(0, BigInt(offset), true);
  view.setBigUint64(8, BigInt(length), true);
  view.setUint32(16, FIEMAP_FLAG_SYNC, true);
  view.setUint32(20, 0, true);
  view.setUint32(24, EXTENTS_PER_CALL, true);
  const result = ioctl.now(fd, FS_IOC_FIEMAP, new Uint8Array(view.buffer));
  if (result < 0) {
    const cause = errnoError(-result, 'FS_IOC_FIEMAP');
    throw new VhdkitError('UNSUPPORTED', `The file system does not list physical extents (${cause.code})`, {
      operation: 'list physical extents',
      context: { offset, length },
      cause,
    });
  }
  const mapped = Math.min(view.getUint32(20, true), EXTENTS_PER_CALL);
  return Array.from({ length: mapped }, (_, index) => decodeExtent(view, index));
}

export function fiemapCalls(library: Library): FiemapCalls {
  const ioctl = library.call('int ioctl(int fd, unsigned long request, void *argument)');
  return {
    fiemap(fd, offset, length) {
      const view = new DataView(new ArrayBuffer(HEADER + EXTENTS_PER_CALL * EXTENT));
      const extents: FiemapExtent[] = [];
      const end = offset + length;
      for (let at = offset; at < end; ) {
        const found = page(ioctl, fd, view, at, end - at);
        extents.push(...found);
        const last = found.at(-1);
        if (!last || last.flags & FIEMAP_EXTENT_LAST) break;
        // An answer that does not go forward would never end.
        const next = last.logical + last.length;
        if (next <= at) break;
        at = next;
      }
      return extents;
    },
  };
}
