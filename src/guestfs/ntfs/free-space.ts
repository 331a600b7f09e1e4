/**
 * Free space of an NTFS volume, by $Bitmap, and only after the volume proved to be consistent and clean.
 *
 * Checks, in order: boot sector; $MFT through its own runs; $MFTMirr; $Volume's flags; $LogFile; $Bitmap
 * (place, size, bits past the end); then every file of the volume against $Bitmap; hibernation; shadow copies. Space past
 * the last cluster (the backup boot sector is there) is never free.
 *
 * Deliberately not here: replaying $LogFile, and anything of folders.
 */
import { countUsed, freeRuns, tailIsSet } from '../bitmap-ranges.js';
import { freeClusterSpace } from '../cluster-space.js';
import type { FreeSpaceReader } from '../free-space.js';
import { inconsistent, keptIfInconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { volumeBytes } from '../volume-bytes.js';
import { BOOT_BYTES, decodeNtfsBoot, isNtfs, type NtfsBoot } from './boot.js';
import { isHibernated, logObjection, volumeObjection } from './clean.js';
import { checkMirror, FILE, type Mft, openMft, systemStream } from './mft.js';
import { overlap } from './runs.js';
import type { Stream } from './stream.js';
import { checkFiles, findHibernationFiles } from './used-clusters.js';

const KIND = 'ntfs';

/** $Bitmap, whole and of the right size. @throws IMAGE_CORRUPT (inconsistent) */
async function openBitmap(mft: Mft): Promise<Stream> {
  const bitmap = await systemStream(mft, FILE.bitmap, '$Bitmap');
  if (bitmap.initialised !== bitmap.size) throw inconsistent('$Bitmap is not written to its end');
  if (bitmap.size < Math.ceil(mft.clusters / 8)) throw inconsistent('$Bitmap is too short for the volume');
  if (!(await tailIsSet(bitmap.read, mft.clusters, bitmap.size)))
    throw inconsistent('$Bitmap calls clusters free that do not exist');
  return bitmap;
}

interface Objection {
  reason: string;
  hibernated?: boolean;
}

type Verdict = Objection | { bitmap: Stream; free: number };

async function hibernation(mft: Mft, files: readonly number[]): Promise<Objection | undefined> {
  for (const number of files)
    if (await isHibernated(mft, number))
      return {
        reason: 'Windows is hibernated on it (hiberfil.sys; fast start-up does that too)',
        hibernated: true,
      };
  return undefined;
}

/** A volume that was not left in order is kept; what is left to find out is whether the whole disk must be. */
async function unclean(mft: Mft, reason: string): Promise<Objection> {
  return (await hibernation(mft, await findHibernationFiles(mft))) ?? { reason };
}

async function judge(read: ReadBytes, boot: NtfsBoot): Promise<Verdict> {
  const mft = await openMft(read, boot);
  const objection = await volumeObjection(mft);
  if (objection !== undefined) return unclean(mft, objection);
  const log = await systemStream(mft, FILE.log, '$LogFile');
  const logged = await logObjection(log);
  if (logged !== undefined) return unclean(mft, logged);
  const mirror = await checkMirror(mft, boot);
  const bitmap = await openBitmap(mft);
  if (overlap([mft.stream, mft.inUse, mirror, log, bitmap].flatMap(({ runs }) => runs)))
    return { reason: 'two system files hold the same cluster' };
  const used = await countUsed(bitmap.read, mft.clusters);
  const files = await checkFiles(mft, bitmap);
  if (files.clusters > used)
    return { reason: 'files hold more clusters than are used: some belong to two of them' };
  if (files.hasShadowCopies)
    return {
      reason:
        'it has shadow copies (restore points), which need clusters that NTFS calls free: delete them first (vssadmin delete shadows)',
    };
  return (await hibernation(mft, files.hibernation)) ?? { bitmap, free: mft.clusters - used };
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
    if ('reason' in verdict) return { status: 'kept', kind: KIND, ...verdict };
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
