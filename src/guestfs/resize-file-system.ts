/**
 * How far a file system reaches, as its first sectors say. Pure.
 *
 * Invariant: only a file system whose own magic is there gives an answer, and only a size that makes sense.
 * Whoever asks wants to know whether something would be cut off, so the answer may be too large by a few
 * sectors, never too small.
 */
import { isPowerOfTwo, KiB, toSafeNumber } from '../base/bytes.js';

/** Bytes that `fileSystemEnd` wants to see: the superblock of Btrfs is the farthest. */
export const SUPERBLOCK_BYTES = 68 * KiB;

export interface FileSystemEnd {
  fileSystem: string;
  /** Bytes from its start. */
  bytes: number;
}

const EXT = 1024;
const BTRFS = 64 * KiB;

class Head {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  text(at: number, length: number): string {
    return Buffer.from(this.#bytes.subarray(at, at + length)).toString('latin1');
  }

  u8 = (at: number): number => this.#view.getUint8(at);
  u16 = (at: number): number => this.#view.getUint16(at, true);
  u32 = (at: number): number => this.#view.getUint32(at, true);
  big32 = (at: number): number => this.#view.getUint32(at);
  u64 = (at: number): number => toSafeNumber(this.#view.getBigUint64(at, true)) ?? Number.NaN;
  big64 = (at: number): number => toSafeNumber(this.#view.getBigUint64(at)) ?? Number.NaN;
}

/** Boot sectors: bytes per sector at 11, sectors at 19 or 32 (FAT), 40 (NTFS), 72 (exFAT). */
function bootSector(head: Head): FileSystemEnd | undefined {
  const oem = head.text(3, 8);
  const sector = head.u16(11);
  // The copy of NTFS's boot sector is in the sector behind those that it counts.
  if (oem === 'NTFS    ') return { fileSystem: 'NTFS', bytes: (head.u64(40) + 1) * sector };
  if (oem === 'EXFAT   ') return { fileSystem: 'exFAT', bytes: head.u64(72) * 2 ** head.u8(108) };
  const isFat = head.u16(510) === 0xaa55 && (head.text(54, 3) === 'FAT' || head.text(82, 3) === 'FAT');
  if (!isFat || !isPowerOfTwo(sector)) return undefined;
  return { fileSystem: 'FAT', bytes: (head.u16(19) || head.u32(32)) * sector };
}

function superblock(head: Head): FileSystemEnd | undefined {
  // XFS: blocks of sb_blocksize (4), sb_dblocks (8), big-endian.
  if (head.text(0, 4) === 'XFSB') return { fileSystem: 'XFS', bytes: head.big64(8) * head.big32(4) };
  // ext2/3/4: blocks (4, upper half at 0x150 with the feature 64bit, 0x80 at 0x60), logarithm at 24.
  if (head.u16(EXT + 56) === 0xef53 && head.u32(EXT + 24) <= 6) {
    const upper = head.u32(EXT + 0x60) & 0x80 ? head.u32(EXT + 0x150) : 0;
    const blocks = upper * 2 ** 32 + head.u32(EXT + 4);
    return { fileSystem: 'ext2/3/4', bytes: blocks * (1024 << head.u32(EXT + 24)) };
  }
  // Btrfs: the device's own total_bytes within dev_item (0xc9).
  if (head.text(BTRFS + 64, 8) === '_BHRfS_M') return { fileSystem: 'Btrfs', bytes: head.u64(BTRFS + 0xd1) };
  // Swap: number of the last page at 1028.
  if (head.text(4086, 10) === 'SWAPSPACE2') return { fileSystem: 'swap', bytes: (head.u32(1028) + 1) * 4096 };
  return undefined;
}

/**
 * Where the file system ends that begins with these bytes; undefined when none is known.
 * @param bytes the first SUPERBLOCK_BYTES of a partition or disk, zeros where it is shorter
 */
export function fileSystemEnd(bytes: Uint8Array): FileSystemEnd | undefined {
  if (bytes.length < SUPERBLOCK_BYTES) return undefined;
  const head = new Head(bytes);
  const found = bootSector(head) ?? superblock(head);
  return found && Number.isSafeInteger(found.bytes) && found.bytes > 0 ? found : undefined;
}
