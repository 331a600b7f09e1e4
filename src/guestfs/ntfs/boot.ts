/**
 * The boot sector of NTFS: the volume's geometry and where its master file table begins.
 *
 * Invariant: a decoded boot sector describes a volume that fits its partition; every size is a power of two
 * within NTFS's limits. Source: [MS-NTFS BPB] as documented for Windows' format, "Boot Sector" of the NTFS
 * on-disk layout (bytes/sector 11, sectors/cluster 13, total sectors 40, MFT 48, mirror 56, record 64).
 */
import { isPowerOfTwo, MiB } from '../../base/bytes.js';
import { inconsistent } from '../inconsistent.js';
import { safeU64, viewOf } from '../volume-bytes.js';

export interface NtfsBoot {
  /** Bytes. */
  clusterBytes: number;
  recordBytes: number;
  /** Whole clusters that $Bitmap counts. */
  clusters: number;
  /** First cluster of $MFT and of $MFTMirr. */
  mftLcn: number;
  mirrorLcn: number;
}

export const BOOT_BYTES = 512;
const MAX_CLUSTER = 2 * MiB;
const MAX_RECORD = 64 * 1024;
/** 2^32 clusters is where NTFS implementations end. */
const MAX_CLUSTERS = 2 ** 32;

export function isNtfs(sector: Uint8Array): boolean {
  return Buffer.from(sector.subarray(3, 11)).toString('latin1') === 'NTFS    ';
}

/** Above 128 the byte is a negative logarithm: 0xF4 stands for 2^12 sectors. */
function sectorsPerCluster(byte: number): number {
  return byte > 128 ? 2 ** (256 - byte) : byte;
}

/** Positive: clusters; negative: the logarithm of bytes. */
function recordBytes(value: number, clusterBytes: number): number {
  return value < 0 ? 2 ** -value : value * clusterBytes;
}

/**
 * @param sector the first BOOT_BYTES bytes of the volume
 * @param length bytes of the volume
 * @throws IMAGE_CORRUPT (inconsistent)
 */
export function decodeNtfsBoot(sector: Uint8Array, length: number): NtfsBoot {
  const view = viewOf(sector);
  const bad = (what: string) => inconsistent(`its boot sector has an impossible ${what}`);
  const sectorBytes = view.getUint16(11, true);
  if (!isPowerOfTwo(sectorBytes) || sectorBytes < 512 || sectorBytes > 4096) throw bad('sector size');
  if (view.getUint16(510, true) !== 0xaa55) throw bad('signature');
  const clusterBytes = sectorsPerCluster(view.getUint8(13)) * sectorBytes;
  if (!isPowerOfTwo(clusterBytes) || clusterBytes > MAX_CLUSTER) throw bad('cluster size');
  // Fields of FAT that are zero on NTFS: reserved sectors, FATs, root entries, total16, FAT size, total32.
  if (sector.subarray(14, 21).some((byte) => byte !== 0) || view.getUint16(22, true) !== 0)
    throw bad('field of FAT');
  const record = recordBytes(view.getInt8(64), clusterBytes);
  if (!isPowerOfTwo(record) || record < 512 || record > MAX_RECORD) throw bad('record size');
  const sectors = safeU64(view, 40, 'the number of sectors');
  if (sectors * sectorBytes > length) throw inconsistent('it is larger than its partition');
  const clusters = Math.floor((sectors * sectorBytes) / clusterBytes);
  if (clusters < 1 || clusters > MAX_CLUSTERS) throw bad('size');
  const mftLcn = safeU64(view, 48, 'the place of $MFT');
  const mirrorLcn = safeU64(view, 56, 'the place of $MFTMirr');
  if (mftLcn >= clusters || mirrorLcn >= clusters || mftLcn === mirrorLcn) throw bad('place of $MFT');
  return { clusterBytes, recordBytes: record, clusters, mftLcn, mirrorLcn };
}
