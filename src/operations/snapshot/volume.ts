/**
 * Preserved volumes as the `snapshot` commands see them: a snapshot that can be written to as well, beside an
 * image that is served. There is at most one of an image.
 *
 * Making one needs the server, because the moment that it stands for is one between requests; looking and deleting
 * do not.
 */
import { VhdkitError } from '../../base/errors.js';
import { sameFile } from '../../io/file-system.js';
import { makePrivateFolder, removeEmptyFolder } from '../../io/private-folder.js';
import { volumeFolder } from '../../layers/snapshot-folder.js';
import type { FailurePolicy } from '../../layers/snapshots.js';
import { readPreservedVolume, removePreservedVolume, type VolumeFacts } from '../../layers/volumes.js';
import { controlPath, controlRequest } from '../../nbd/control-client.js';
import type { Host } from '../host.js';
import { nameOfTime } from './create.js';
import type { SnapshotCreateResult, SnapshotFacts } from './types.js';

/** The kind that volumes have among snapshots. */
const KIND = 'volume';

export interface VolumeCreateOptions {
  /** The image, or the name under which it is exported. */
  path: string;
  /** Socket of the server that serves it. */
  control: string;
  /** Default: the time. */
  name?: string;
  /** Bytes, a power of two from 4 KiB to 16 MiB; default 64 KiB. */
  chunkSize?: number;
  onFailure?: FailurePolicy;
  signal?: AbortSignal;
}

interface Export {
  name: string;
  path: string;
}

function factsOf(image: string, facts: VolumeFacts): SnapshotFacts {
  const { name, created, state, reason, allocatedBytes } = facts;
  return { name, id: name, created, state, reason, kind: KIND, device: volumeFolder(image), allocatedBytes };
}

/** The export that shows an image and can be written to. @throws NOT_FOUND */
async function exportOf(host: Host, control: string, path: string, signal?: AbortSignal): Promise<Export> {
  const call = { method: 'GET' as const, path: '/v1/exports' };
  const answer = await controlRequest(control, signal ? { ...call, signal } : call);
  const { exports = [] } = answer as { exports?: (Export & { readOnly: boolean })[] };
  const wanted = await host.fileSystem.identity(path);
  for (const each of exports) {
    // `disk@name` is a snapshot or volume of another export.
    if (each.readOnly || each.name.includes('@')) continue;
    const identity = wanted && (await host.fileSystem.identity(each.path));
    if (each.name === path || (identity && sameFile(identity, wanted))) return each;
  }
  throw new VhdkitError('NOT_FOUND', `The server at ${control} does not serve ${path} to write to`, {
    operation: 'find export',
    context: { path, control },
    hint: 'Look what it serves: a read-only export and one with an overlay have no volumes.',
  });
}

/** @throws NOT_FOUND, ALREADY_EXISTS (there is one), INVALID_ARGUMENT, NO_SPACE, and what asking a server throws */
export async function createVolume(host: Host, options: VolumeCreateOptions): Promise<SnapshotCreateResult> {
  const { path, control, name = nameOfTime(host.clock.now()), chunkSize, onFailure, signal } = options;
  const served = await exportOf(host, control, path, signal);
  const answer = await controlRequest(control, {
    method: 'POST',
    path: controlPath('v1', 'exports', served.name, 'volumes'),
    body: { name, blockSize: chunkSize, onFailure },
    ...(signal ? { signal } : {}),
  });
  const { volume } = answer as { volume: VolumeFacts };
  const snapshot = factsOf(served.path, volume);
  return { path, folder: snapshot.device, chunkSize: volume.blockSize, snapshot, lost: [], dryRun: false };
}

/** The preserved volume that lies beside an image. @throws SNAPSHOT_RECORD_INVALID, IO_FAILED */
export async function findVolume(host: Host, path: string): Promise<SnapshotFacts | undefined> {
  const { fileSystem } = host;
  const image = (await fileSystem.realPath?.(path)) ?? path;
  const facts = await readPreservedVolume(fileSystem, image);
  return facts && factsOf(image, facts);
}

/** Deletes the volume of an image; through its server where one is named. @throws IN_USE, NOT_FOUND, IO_FAILED */
export async function deleteVolume(
  host: Host,
  { path, name, control }: { path: string; name: string; control?: string },
): Promise<void> {
  if (control !== undefined) {
    const served = await exportOf(host, control, path);
    const segments = ['v1', 'exports', served.name, 'volumes', name];
    await controlRequest(control, { method: 'DELETE', path: controlPath(...segments) });
    return;
  }
  const { fileSystem, clock } = host;
  const image = (await fileSystem.realPath?.(path)) ?? path;
  const lock = await fileSystem.lock(path);
  try {
    const access = { fileSystem, clock, makeFolder: makePrivateFolder, removeFolder: removeEmptyFolder };
    await removePreservedVolume(access, image);
  } finally {
    await lock.release();
  }
}
