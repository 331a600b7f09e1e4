/**
 * Free space of an NTFS volume, by $Bitmap, and only after the volume proved to be consistent and clean.
 *
 * Checks, in order: boot sector; $MFT through its own runs; $MFTMirr; $Volume's flags; $LogFile; $Bitmap
 * (place, size, bits past the end); then every file of the volume against $Bitmap; hibernation. Space past
 * the last cluster (the backup boot sector is there) is never free.
 *
 * Deliberately not here: replaying $LogFile, and anything of folders.
 */
import { countUsed, freeRuns, tailIsSet } from '../bitmap-ranges.js';
import { freeClusterSpace } from '../cluster-space.js';
import type { FreeSpaceAnswer, FreeSpaceReader } from '../free-space.js';
import { inconsistent, keptIfInconsistent } from '../inconsistent.js';
import { volumeBytes } from '../volume-bytes.js';
import { BOOT_BYTES, decodeNtfsBoot, isNtfs, type NtfsBoot } from './boot.js';
import { hibernationObjection, logObjection, volumeObjection } from './clean.js';
import { checkMirror, FILE, type Mft, openMft, systemStream } from './mft.js';
import { overlap } from './runs.js';
import type { Stream } from './stream.js';
import { checkFiles } from './used-clusters.js';

const KIND = 'ntfs';

function kept(reason: string): FreeSpaceAnswer {
  return { status: 'kept', kind: KIND, reason };
}

/** $Bitmap, whole and of the right size. @throws IMAGE_CORRUPT (inconsistent) */
async function openBitmap(mft: Mft): Promise<Stream> {
  const bitmap = await systemStream(mft, FILE.bitmap, '$Bitmap');
  if (bitmap.initialised !== bitmap.size) throw inconsistent('$Bitmap is not written to its end');
  if (bitmap.size < Math.ceil(mft.clusters / 8)) throw inconsistent('$Bitmap is too short for the volume');
  if (!(await tailIsSet(bitmap.read, mft.clusters, bitmap.size)))
    throw inconsistent('$Bitmap calls clusters free that do not exist');
  return bitmap;
}

/** Walks all files. Why the volume is to be kept after all, if so. */
async function fileObjection(mft: Mft, bitmap: Stream, used: number): Promise<string | undefined> {
  const files = await checkFiles(mft, bitmap);
  if (files.clusters > used) return 'files hold more clusters than are used: some belong to two of them';
  for (const number of files.hibernation) {
    const objection = await hibernationObjection(mft, number);
    if (objection !== undefined) return objection;
  }
  return undefined;
}

async function judge(
  read: Parameters<FreeSpaceReader>[0],
  boot: NtfsBoot,
): Promise<{ objection: string } | { bitmap: Stream; free: number }> {
  const mft = await openMft(read, boot);
  const mirror = await checkMirror(mft, boot);
  const log = await systemStream(mft, FILE.log, '$LogFile');
  const objection = (await volumeObjection(mft)) ?? (await logObjection(log));
  if (objection !== undefined) return { objection };
  const bitmap = await openBitmap(mft);
  if (overlap([mft.stream, mft.inUse, mirror, log, bitmap].flatMap(({ runs }) => runs)))
    return { objection: 'two system files hold the same cluster' };
  const used = await countUsed(bitmap.read, mft.clusters);
  const late = await fileObjection(mft, bitmap, used);
  return late === undefined ? { bitmap, free: mft.clusters - used } : { objection: late };
}

/** Recognises NTFS by its boot sector and answers with its free clusters, or why it is kept. */
export const ntfsFreeSpace: FreeSpaceReader = async (read, volume) => {
  if (volume.length < BOOT_BYTES) return { status: 'other' };
  const inVolume = volumeBytes(read, volume);
  const sector = await inVolume(0, BOOT_BYTES);
  if (!isNtfs(sector)) return { status: 'other' };
  return keptIfInconsistent(KIND, async () => {
    const boot = decodeNtfsBoot(sector, volume.length);
    const verdict = await judge(inVolume, boot);
    if ('objection' in verdict) return kept(verdict.objection);
    return freeClusterSpace({
      kind: KIND,
      volume,
      firstCluster: 0,
      clusterBytes: boot.clusterBytes,
      freeClusters: verdict.free,
      runs: () => freeRuns(verdict.bitmap.read, boot.clusters),
    });
  });
};
