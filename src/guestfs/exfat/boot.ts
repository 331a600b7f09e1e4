/**
 * The boot region of exFAT: geometry, protected by a checksum.
 *
 * Invariants: nothing of it is used before the checksum over its eleven sectors held; a decoded boot
 * sector describes a volume that fits its partition. Source: Microsoft "exFAT file system specification",
 * sections 3.1 (main boot sector) and 3.4 (checksum).
 */
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { safeU64, viewOf } from '../volume-bytes.js';

export const BOOT_BYTES = 512;
/** Sectors that the checksum covers; the next one holds it, over and over. */
const CHECKED_SECTORS = 11;
const MAX_CLUSTER_SHIFT = 25;
const MAX_CLUSTERS = 2 ** 32 - 11;
/** Bits of VolumeFlags. */
const SECOND_TABLE = 0x0001;
const DIRTY = 0x0002;
const MEDIA_FAILURE = 0x0004;

export interface ExfatBoot {
  clusterBytes: number;
  /** Clusters are numbered from 2 to clusters + 1. */
  clusters: number;
  /** Byte offsets in the volume, and bytes. */
  table: number;
  tableBytes: number;
  heap: number;
  rootCluster: number;
  /** What the boot sector says of how the volume was left; undefined when it was left well. */
  objection: string | undefined;
}

export function isExfat(sector: Uint8Array): boolean {
  return Buffer.from(sector.subarray(3, 11)).toString('latin1') === 'EXFAT   ';
}

/** The checksum leaves out VolumeFlags (106, 107) and PercentInUse (112). */
function checksum(region: Uint8Array): number {
  let sum = 0;
  for (let index = 0; index < region.length; index += 1) {
    if (index === 106 || index === 107 || index === 112) continue;
    sum = (((sum & 1) << 31) | (sum >>> 1)) >>> 0;
    sum = (sum + (region[index] ?? 0)) >>> 0;
  }
  return sum;
}

async function checkRegion(read: ReadBytes, sectorBytes: number): Promise<void> {
  const sum = checksum(await read(0, CHECKED_SECTORS * sectorBytes));
  const view = viewOf(await read(CHECKED_SECTORS * sectorBytes, sectorBytes));
  for (let at = 0; at < sectorBytes; at += 4)
    if (view.getUint32(at, true) !== sum) throw inconsistent('the checksum of its boot region is wrong');
}

function objectionOf(flags: number): string | undefined {
  if (flags & SECOND_TABLE) return 'its second allocation table is the active one (TexFAT)';
  if (flags & DIRTY) return 'it was not cleanly unmounted';
  return flags & MEDIA_FAILURE ? 'reading or writing it failed once: it wants a check' : undefined;
}

/**
 * @param read offsets from the volume's start
 * @param sector its first BOOT_BYTES bytes
 * @throws IMAGE_CORRUPT (inconsistent)
 */
export async function readExfatBoot(read: ReadBytes, sector: Uint8Array, length: number): Promise<ExfatBoot> {
  const view = viewOf(sector);
  const sectorShift = view.getUint8(108);
  const clusterShift = sectorShift + view.getUint8(109);
  if (sectorShift < 9 || sectorShift > 12 || clusterShift > MAX_CLUSTER_SHIFT)
    throw inconsistent('its boot sector has an impossible sector or cluster size');
  const sectorBytes = 2 ** sectorShift;
  await checkRegion(read, sectorBytes);
  if (view.getUint16(510, true) !== 0xaa55 || sector.subarray(11, 64).some((byte) => byte !== 0))
    throw inconsistent('its boot sector is damaged');
  if (view.getUint8(105) !== 1) throw inconsistent('its version of exFAT is not known');
  if (view.getUint8(110) !== 1) throw inconsistent('it has two allocation tables (TexFAT)');
  const total = safeU64(view, 72, 'its number of sectors') * sectorBytes;
  const table = view.getUint32(80, true) * sectorBytes;
  const tableBytes = view.getUint32(84, true) * sectorBytes;
  const heap = view.getUint32(88, true) * sectorBytes;
  const clusters = view.getUint32(92, true);
  const clusterBytes = 2 ** clusterShift;
  if (total > length) throw inconsistent('it is larger than its partition');
  if (clusters < 1 || clusters > MAX_CLUSTERS || heap + clusters * clusterBytes > total)
    throw inconsistent('its clusters end outside of it');
  // Two copies of the boot region come first.
  if (table < 24 * sectorBytes || table + tableBytes > heap || tableBytes < (clusters + 2) * 4)
    throw inconsistent('its allocation table does not fit its clusters');
  const rootCluster = view.getUint32(96, true);
  const objection = objectionOf(view.getUint16(106, true));
  return { clusterBytes, clusters, table, tableBytes, heap, rootCluster, objection };
}
