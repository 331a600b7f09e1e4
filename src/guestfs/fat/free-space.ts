/**
 * Free space of a FAT12, FAT16 or FAT32 volume, by its allocation table, after its checks.
 *
 * Checks: boot sector (and its copy on FAT32), dirty and error bits, all copies of the table, then every
 * file against the table. FAT12 and FAT16 keep no copy of the boot sector, so that something else must
 * confirm where clusters begin and how large they are: folders, which name their own cluster, or the
 * usual layout. FSInfo's numbers are hints and not used. Reserved sectors, the tables, the root folder and
 * what follows the last cluster are never free.
 */
import { freeClusterSpace } from '../cluster-space.js';
import type { FreeSpaceAnswer, FreeSpaceReader } from '../free-space.js';
import { inconsistent, keptIfInconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { volumeBytes } from '../volume-bytes.js';
import { BOOT_BYTES, decodeFatBoot, type FatBoot, isFat, sameGeometry } from './boot.js';
import { FatTable } from './table.js';
import { type TreeSeen, walkTree } from './tree.js';

/** Root folder entries that formatting programs choose, by media byte: hard disks and floppies. */
const HARD_DISK = 0xf8;
const USUAL_ROOT_HARD_DISK = [512];
const USUAL_ROOT_FLOPPY = [112, 224, 240];

const ENTRY_BITS = { fat12: 12, fat16: 16, fat32: 32 } as const;

/** True when FAT32's copy of the boot sector is there. @throws IMAGE_CORRUPT when the two differ */
async function hasBackup(read: ReadBytes, boot: FatBoot, sector: Uint8Array): Promise<boolean> {
  const { backupSector, sectorBytes, tables } = boot;
  if (backupSector === 0 || (backupSector + 1) * sectorBytes > tables) return false;
  const copy = await read(backupSector * sectorBytes, BOOT_BYTES);
  if (!sameGeometry(sector, copy)) throw inconsistent('its boot sector differs from its copy');
  return true;
}

/**
 * Is it certain where clusters are? A wrong number of root entries or sectors per cluster would shift
 * them, and nothing else of FAT12 and FAT16 would show it.
 */
function isPlaced(boot: FatBoot, { folders, sawLongFile }: TreeSeen): boolean {
  if (folders && (folders.highest > 2 || sawLongFile)) return true;
  const usual = boot.media === HARD_DISK ? USUAL_ROOT_HARD_DISK : USUAL_ROOT_FLOPPY;
  if (boot.copies !== 2 || !usual.includes(boot.root.entries)) return false;
  const capacity = (boot.tableBytes * 8) / ENTRY_BITS[boot.kind];
  return sawLongFile || capacity < 2 * (boot.clusters + 2);
}

async function judge(
  read: ReadBytes,
  boot: FatBoot,
  sector: Uint8Array,
): Promise<{ reason: string; hibernated?: boolean } | { table: FatTable; free: number }> {
  const isBackedUp = await hasBackup(read, boot, sector);
  const table = new FatTable(read, boot);
  const objection = boot.objection ?? (await table.objection());
  if (objection !== undefined) return { reason: objection };
  if (!(await table.copiesAgree())) return { reason: 'the copies of its allocation table differ' };
  let free = 0;
  for await (const { count } of table.freeRuns()) free += count;
  const used = boot.clusters - free;
  const seen = await walkTree(read, boot, table, used);
  if (seen.isHibernated) return { reason: 'Windows is hibernated on it (hiberfil.sys)', hibernated: true };
  if (!isBackedUp && used > 0 && !isPlaced(boot, seen))
    return { reason: 'nothing in it confirms where its clusters begin' };
  return { table, free };
}

/** Recognises FAT by the fields of its boot sector and answers with its free clusters, or why it is kept. */
export const fatFreeSpace: FreeSpaceReader = async (read, volume) => {
  if (volume.length < BOOT_BYTES) return { status: 'other' };
  const inVolume = volumeBytes(read, volume);
  const sector = await inVolume(0, BOOT_BYTES);
  if (!isFat(sector)) return { status: 'other' };
  let kind = 'fat';
  const answer = await keptIfInconsistent(kind, async (): Promise<FreeSpaceAnswer> => {
    const boot = decodeFatBoot(sector, volume.length);
    kind = boot.kind;
    const verdict = await judge(inVolume, boot, sector);
    if ('reason' in verdict) return { status: 'kept', kind, ...verdict };
    return freeClusterSpace({
      kind: boot.kind,
      volume,
      firstCluster: boot.data,
      clusterBytes: boot.clusterBytes,
      freeClusters: verdict.free,
      runs: () => verdict.table.freeRuns(),
    });
  });
  return answer.status === 'kept' ? { ...answer, kind } : answer;
};
