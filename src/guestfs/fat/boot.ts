/**
 * The boot sector of FAT12, FAT16 and FAT32: geometry and type.
 *
 * Invariants: a decoded boot sector describes a volume that fits its partition and tables that can hold an
 * entry for each cluster; the type follows from the number of clusters alone, and the fields must agree
 * with it. Source: Microsoft "FAT: General Overview of On-Disk Format" 1.03, "Boot Sector and BPB" and
 * "FAT Type Determination".
 */
import { isPowerOfTwo } from '../../base/bytes.js';
import { inconsistent } from '../inconsistent.js';
import { viewOf } from '../volume-bytes.js';

export const BOOT_BYTES = 512;
export type FatKind = 'fat12' | 'fat16' | 'fat32';

export interface FatBoot {
  kind: FatKind;
  media: number;
  sectorBytes: number;
  clusterBytes: number;
  /** Clusters are numbered from 2 to clusters + 1. */
  clusters: number;
  /** Byte offsets and lengths in the volume. */
  tables: number;
  tableBytes: number;
  copies: number;
  /** The fixed root folder of FAT12 and FAT16. */
  root: { offset: number; entries: number };
  /** First cluster of the root folder (FAT32), else 0. */
  rootCluster: number;
  data: number;
  /** The sector with the copy of the boot sector (FAT32), 0 when there is none. */
  backupSector: number;
  /** What the boot sector says of how the volume was left; undefined when it was left well. */
  objection: string | undefined;
}

const MEDIA = [0xf0, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff];
/** Clusters from which on a volume is FAT16, FAT32, and more than FAT32 can number. */
const FROM_FAT16 = 4085;
const FROM_FAT32 = 65525;
const TOO_MANY = 0x0ffffff6;
const ENTRY_BITS: Record<FatKind, number> = { fat12: 12, fat16: 16, fat32: 32 };
const NEEDS_CHECK = 0x03;

/** True for a boot sector with FAT's fields, whatever their values amount to. */
export function isFat(sector: Uint8Array): boolean {
  const view = viewOf(sector);
  const sectorBytes = view.getUint16(11, true);
  const jump = view.getUint8(0);
  return (
    view.getUint16(510, true) === 0xaa55 &&
    (jump === 0xeb || jump === 0xe9) &&
    isPowerOfTwo(sectorBytes) &&
    sectorBytes >= 512 &&
    sectorBytes <= 4096 &&
    isPowerOfTwo(view.getUint8(13)) &&
    view.getUint16(14, true) > 0 &&
    view.getUint8(16) > 0 &&
    MEDIA.includes(view.getUint8(21))
  );
}

function kindOf(clusters: number, isFat32: boolean): FatKind {
  const kind = clusters < FROM_FAT16 ? 'fat12' : clusters < FROM_FAT32 ? 'fat16' : 'fat32';
  if ((kind === 'fat32') !== isFat32)
    throw inconsistent(`with ${clusters} clusters its boot sector is of the wrong type`);
  if (clusters >= TOO_MANY) throw inconsistent('it has more clusters than FAT32 can have');
  return kind;
}

/** Fields that only FAT32 has. @throws IMAGE_CORRUPT (inconsistent) */
function checkFat32(view: DataView): void {
  if (view.getUint16(17, true) !== 0 || view.getUint16(19, true) !== 0)
    throw inconsistent('its boot sector mixes FAT16 and FAT32');
  if (view.getUint16(42, true) !== 0) throw inconsistent('its version of FAT32 is not known');
  if ((view.getUint16(40, true) & 0x80) !== 0)
    throw inconsistent('only one of its allocation tables is in use');
}

/**
 * @param sector the first BOOT_BYTES bytes of the volume, for which `isFat` holds
 * @param length bytes of the volume
 * @throws IMAGE_CORRUPT (inconsistent)
 */
export function decodeFatBoot(sector: Uint8Array, length: number): FatBoot {
  const view = viewOf(sector);
  const sectorBytes = view.getUint16(11, true);
  const copies = view.getUint8(16);
  const rootEntries = view.getUint16(17, true);
  const isFat32 = view.getUint16(22, true) === 0;
  const tableSectors = isFat32 ? view.getUint32(36, true) : view.getUint16(22, true);
  const total = view.getUint16(19, true) || view.getUint32(32, true);
  if (isFat32) checkFat32(view);
  else if (rootEntries === 0) throw inconsistent('it has no root folder');
  if (copies > 2 || tableSectors === 0) throw inconsistent('its number of allocation tables is unusual');
  if (total * sectorBytes > length) throw inconsistent('it is larger than its partition');
  const tables = view.getUint16(14, true) * sectorBytes;
  const tableBytes = tableSectors * sectorBytes;
  const root = { offset: tables + copies * tableBytes, entries: rootEntries };
  const data = root.offset + Math.ceil((rootEntries * 32) / sectorBytes) * sectorBytes;
  const clusterBytes = view.getUint8(13) * sectorBytes;
  const clusters = Math.floor((total * sectorBytes - data) / clusterBytes);
  if (clusters < 1) throw inconsistent('its boot sector leaves no room for data');
  const kind = kindOf(clusters, isFat32);
  if (Math.ceil(((clusters + 2) * ENTRY_BITS[kind]) / 8) > tableBytes)
    throw inconsistent('its allocation table is too short');
  // Windows and Linux note here that the volume is in use (bit 0) or wants to be looked over (bit 1).
  const state = view.getUint8(isFat32 ? 65 : 37);
  return {
    kind,
    media: view.getUint8(21),
    sectorBytes,
    clusterBytes,
    clusters,
    tables,
    tableBytes,
    copies,
    root,
    rootCluster: isFat32 ? view.getUint32(44, true) : 0,
    data,
    backupSector: isFat32 ? view.getUint16(50, true) : 0,
    objection: (state & NEEDS_CHECK) !== 0 ? 'it was not cleanly unmounted' : undefined,
  };
}

/** True when two boot sectors describe the same volume (the fields of geometry, bytes 11 to 63). */
export function sameGeometry(a: Uint8Array, b: Uint8Array): boolean {
  return b.length >= 64 && Buffer.compare(a.subarray(11, 64), b.subarray(11, 64)) === 0;
}
