/**
 * Does a disk look as if a file system had all of it, without a partition table? Pure but for reading.
 *
 * Invariant: only evidence is gathered here, for deciding between a table and no table; whether the file
 * system is sound is for its reader. The boot sectors of FAT and NTFS end like an MBR.
 */
import { isPowerOfTwo, KiB } from '../base/bytes.js';
import { hasExtMagic, SUPERBLOCK_AT, SUPERBLOCK_BYTES } from './ext/superblock.js';
import type { ReadBytes } from './partition-table.js';

const HEAD_BYTES = 2 * KiB;
const BTRFS = { at: 64 * KiB + 64, magic: '_BHRfS_M' } as const;
const SWAP_PAGE = 4 * KiB;

function latin1(bytes: Uint8Array, at: number, length: number): string {
  return Buffer.from(bytes.subarray(at, at + length)).toString('latin1');
}

function hasFatParameters(sector: Uint8Array): boolean {
  const view = new DataView(sector.buffer, sector.byteOffset, sector.byteLength);
  const jumps = (sector[0] === 0xeb && sector[2] === 0x90) || sector[0] === 0xe9;
  const bytesPerSector = view.getUint16(11, true);
  const fats = sector[16] ?? 0;
  const media = sector[21] ?? 0;
  return (
    jumps &&
    [512, 1024, 2048, 4096].includes(bytesPerSector) &&
    isPowerOfTwo(sector[13] ?? 0) &&
    view.getUint16(14, true) > 0 &&
    (fats === 1 || fats === 2) &&
    (media === 0xf0 || media >= 0xf8)
  );
}

/** The file system whose boot sector this is (512 bytes); undefined for an MBR and for anything else. */
export function bootSectorKind(sector: Uint8Array): string | undefined {
  const oem = latin1(sector, 3, 8);
  if (oem === 'NTFS    ') return 'NTFS';
  if (oem === 'EXFAT   ') return 'exFAT';
  if (latin1(sector, 54, 3) === 'FAT' || latin1(sector, 82, 3) === 'FAT') return 'FAT';
  return hasFatParameters(sector) ? 'FAT' : undefined;
}

function looksLikeExt(head: Uint8Array): boolean {
  const bytes = head.subarray(SUPERBLOCK_AT, SUPERBLOCK_AT + SUPERBLOCK_BYTES);
  if (!hasExtMagic(bytes)) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(0x18, true) <= 6 && view.getUint32(0x14, true) <= 1;
}

/** Names a file system that seems to begin at the start of the disk. */
export async function wholeDiskFileSystem(read: ReadBytes, size: number): Promise<string | undefined> {
  if (size < HEAD_BYTES) return undefined;
  const head = await read(0, HEAD_BYTES);
  const boot = bootSectorKind(head.subarray(0, 512));
  if (boot !== undefined) return boot;
  if (latin1(head, 0, 4) === 'XFSB') return 'XFS';
  if (looksLikeExt(head)) return 'ext2/3/4';
  const textAt = async (at: number, length: number): Promise<string> =>
    at + length > size ? '' : latin1(await read(at, length), 0, length);
  if ((await textAt(BTRFS.at, BTRFS.magic.length)) === BTRFS.magic) return 'btrfs';
  return (await textAt(SWAP_PAGE - 10, 10)) === 'SWAPSPACE2' ? 'swap' : undefined;
}
