/**
 * ioctls of block devices (linux/fs.h): capacity, sector sizes, zeroing.
 */
import type { Library } from './library.js';

const BLKGETSIZE64 = 0x80081272;
const BLKSSZGET = 0x1268;
const BLKPBSZGET = 0x127b;
const BLKZEROOUT = 0x127f;

export interface BlockDeviceCalls {
  /** BLKZEROOUT, range in multiples of the logical sector; 0 or an errno. */
  blockZeroOut(fd: number, offset: number, length: number): Promise<number>;
  /** BLKGETSIZE64: bytes or −errno. */
  blockDeviceSize(fd: number): number;
  /** BLKSSZGET and BLKPBSZGET in bytes; undefined when it is no block device. */
  blockDeviceSectorSizes(fd: number): { logical: number; physical: number } | undefined;
}

export function blockDeviceCalls(library: Library): BlockDeviceCalls {
  const ioctl = library.call('int ioctl(int fd, unsigned long request, void *argument)');

  const readUint32 = (fd: number, request: number): number => {
    const bytes = new Uint8Array(4);
    const result = ioctl.now(fd, request, bytes);
    return result < 0 ? result : new DataView(bytes.buffer).getUint32(0, true);
  };

  return {
    async blockZeroOut(fd, offset, length) {
      const range = new Uint8Array(16);
      const view = new DataView(range.buffer);
      view.setBigUint64(0, BigInt(offset), true);
      view.setBigUint64(8, BigInt(length), true);
      return -(await ioctl.later(fd, BLKZEROOUT, range)) || 0;
    },
    blockDeviceSize(fd) {
      const bytes = new Uint8Array(8);
      const result = ioctl.now(fd, BLKGETSIZE64, bytes);
      return result < 0 ? result : Number(new DataView(bytes.buffer).getBigUint64(0, true));
    },
    blockDeviceSectorSizes(fd) {
      const logical = readUint32(fd, BLKSSZGET);
      const physical = readUint32(fd, BLKPBSZGET);
      return logical > 0 && physical > 0 ? { logical, physical } : undefined;
    },
  };
}
