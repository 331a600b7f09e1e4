/**
 * Preserved volumes as the `snapshot` commands see them: a snapshot that can be written to as well, beside an
 * image that is served. There is at most one of an image. Looking and deleting need no server.
 */
import { isVhdkitError } from '../../base/errors.js';
import { makePrivateFolder, removeEmptyFolder } from '../../io/private-folder.js';
import { volumeFolder } from '../../layers/snapshot-folder.js';
import {
  preservedVolumeName,
  readPreservedVolume,
  removePreservedVolume,
  type VolumeFacts,
} from '../../layers/volumes.js';
import type { Host } from '../host.js';
import { takeLock } from './open-set.js';
import type { SnapshotFacts } from './types.js';

/** The kind that volumes have among snapshots. */
const KIND = 'volume';

async function realPath({ fileSystem }: Host, path: string): Promise<string> {
  return (await fileSystem.realPath?.(path)) ?? path;
}

/** @param image its path without links */
export function volumeFacts(image: string, facts: VolumeFacts): SnapshotFacts {
  const { name, created, state, reason, allocatedBytes } = facts;
  return { name, id: name, created, state, reason, kind: KIND, device: volumeFolder(image), allocatedBytes };
}

/** The name of the volume that lies beside an image, whatever has become of it. @throws SNAPSHOT_RECORD_INVALID */
export async function volumeName(host: Host, path: string): Promise<string | undefined> {
  return preservedVolumeName(host.fileSystem, await realPath(host, path));
}

/**
 * The volume that lies beside an image. One whose files are damaged is broken: looking is for what is wrong, too.
 * @throws SNAPSHOT_RECORD_INVALID, PERMISSION_DENIED, IO_FAILED
 */
export async function findVolume(host: Host, path: string): Promise<SnapshotFacts | undefined> {
  const { fileSystem } = host;
  const image = await realPath(host, path);
  try {
    const facts = await readPreservedVolume(fileSystem, image);
    return facts && volumeFacts(image, facts);
  } catch (error) {
    if (!isVhdkitError(error) || !['IMAGE_CORRUPT', 'NOT_FOUND'].includes(error.code)) throw error;
    const name = await preservedVolumeName(fileSystem, image);
    if (name === undefined) return undefined;
    const lost = { state: 'broken', reason: 'damaged', allocatedBytes: null } as const;
    return { name, id: name, created: 0, ...lost, kind: KIND, device: volumeFolder(image) };
  }
}

/** Deletes the volume of an image that nobody serves, whatever is left of it. @throws IN_USE, IO_FAILED */
export async function deleteVolume(host: Host, path: string): Promise<void> {
  const { fileSystem, clock } = host;
  const lock = await takeLock(host, path);
  try {
    const access = { fileSystem, clock, makeFolder: makePrivateFolder, removeFolder: removeEmptyFolder };
    await removePreservedVolume(access, await realPath(host, path));
  } finally {
    await lock.release();
  }
}
