/**
 * Free space of an exFAT volume, by its allocation bitmap, after its checks.
 *
 * Checks: boot region with its checksum, flags (dirty, failures, TexFAT), the bitmap that the root folder
 * names, then every file, the bitmap and the up-case table against the bitmap. PercentInUse is a hint and
 * not used. What lies before the first cluster and after the last one is never free.
 */
import { freeRuns } from '../bitmap-ranges.js';
import { freeClusterSpace } from '../cluster-space.js';
import type { FreeSpaceReader } from '../free-space.js';
import { keptIfInconsistent } from '../inconsistent.js';
import { volumeBytes } from '../volume-bytes.js';
import { BOOT_BYTES, isExfat, readExfatBoot } from './boot.js';
import { ExfatTable } from './chains.js';
import { checkFiles, openBitmap, openRoot } from './files.js';

const KIND = 'exfat';

/** Recognises exFAT by its boot sector and answers with its free clusters, or why it is kept. */
export const exfatFreeSpace: FreeSpaceReader = async (disk, volume) => {
  if (volume.length < BOOT_BYTES) return { status: 'other' };
  const read = volumeBytes(disk, volume);
  const sector = await read(0, BOOT_BYTES);
  if (!isExfat(sector)) return { status: 'other' };
  return keptIfInconsistent(KIND, async () => {
    const boot = await readExfatBoot(read, sector, volume.length);
    if (boot.objection !== undefined) return { status: 'kept', kind: KIND, reason: boot.objection };
    const table = new ExfatTable(read, boot);
    await table.checkStart();
    const root = await openRoot({ read, boot, table });
    const bitmap = await openBitmap({ read, boot, table }, root);
    await checkFiles({ read, boot, table }, root, bitmap);
    return freeClusterSpace({
      kind: KIND,
      volume,
      firstCluster: boot.heap,
      clusterBytes: boot.clusterBytes,
      freeClusters: boot.clusters - bitmap.used,
      runs: () => freeRuns(bitmap.read, boot.clusters),
    });
  });
};
