/**
 * Which sector size a file system was made for, as its first sectors say. Pure.
 *
 * Invariant: names nothing that is not there: a magic number alone is not enough where random bytes could
 * carry it. A file system that does not care (Btrfs, ext4 with blocks of 4 KiB) gives no answer.
 */
import { isPowerOfTwo } from '../base/bytes.js';

/** Bytes that `assumedSectorSize` wants to see. */
export const HEAD_BYTES = 2048;

export interface AssumedSectorSize {
  fileSystem: string;
  /** Bytes of its smallest unit of reading and writing. */
  bytes: number;
  /** True when it also works on a disk with smaller sectors. */
  worksOnSmaller: boolean;
}

const EXT_SUPERBLOCK = 1024;

function text(head: Uint8Array, at: number, length: number): string {
  return Buffer.from(head.subarray(at, at + length)).toString('latin1');
}

function sane(bytes: number): boolean {
  return isPowerOfTwo(bytes) && bytes >= 512 && bytes <= 65536;
}

/** Looks at the first HEAD_BYTES bytes of a partition or disk. Undefined: nothing known, or nothing assumed. */
export function assumedSectorSize(head: Uint8Array): AssumedSectorSize | undefined {
  if (head.length < HEAD_BYTES) return undefined;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const answer = (fileSystem: string, bytes: number, worksOnSmaller: boolean) =>
    sane(bytes) ? { fileSystem, bytes, worksOnSmaller } : undefined;
  const oem = text(head, 3, 8);
  // Boot sectors record bytes per sector at 11 (exFAT: its logarithm at 108).
  if (oem === 'NTFS    ') return answer('NTFS', view.getUint16(11, true), false);
  if (oem === 'EXFAT   ') return answer('exFAT', 2 ** (head[108] ?? 0), false);
  if (view.getUint16(510, true) === 0xaa55 && (text(head, 54, 3) === 'FAT' || text(head, 82, 3) === 'FAT')) {
    return answer('FAT', view.getUint16(11, true), false);
  }
  // XFS superblock: sb_sectsize at 102, big-endian.
  if (text(head, 0, 4) === 'XFSB') return answer('XFS', view.getUint16(102), true);
  // ext2/3/4 superblock: magic at 56, logarithm of the block size in KiB at 24.
  if (view.getUint16(EXT_SUPERBLOCK + 56, true) === 0xef53) {
    const shift = view.getUint32(EXT_SUPERBLOCK + 24, true);
    if (shift < 2) return answer('ext2/3/4', 1024 << shift, true);
  }
  return undefined;
}
