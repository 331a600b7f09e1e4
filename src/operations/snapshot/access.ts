/**
 * Where the snapshots of an image are, and what they need of the machine.
 */
import { VhdkitError } from '../../base/errors.js';
import { makePrivateFolder, removeEmptyFolder } from '../../io/private-folder.js';
import { processIdentity } from '../../io/process-identity.js';
import {
  openStore,
  type SnapshotAccess,
  type SnapshotStore,
  snapshotFolder,
} from '../../layers/snapshots.js';
import type { Host } from '../host.js';

/** Folders that are none of the system's: for tests. */
export type FolderAccess = Pick<SnapshotAccess, 'makeFolder' | 'removeFolder'>;

const realFolders: FolderAccess = { makeFolder: makePrivateFolder, removeFolder: removeEmptyFolder };

export function snapshotAccess(host: Host, folders: FolderAccess = realFolders): SnapshotAccess {
  const { fileSystem, clock, random, timer } = host;
  const identity = host.process ?? processIdentity();
  const { pid, host: name } = identity.self;
  const self = { pid, host: name, boot: identity.system ?? '' };
  return { fileSystem, clock, random, timer, ...folders, self };
}

/**
 * The folder that was named, else one beside the image.
 * @throws INVALID_ARGUMENT for a block device without a folder; NOT_FOUND
 */
export async function folderOf(host: Host, image: string, folder: string | undefined): Promise<string> {
  if (folder !== undefined) return folder;
  const { fileSystem } = host;
  if ((await fileSystem.kind(image)) === 'device')
    throw new VhdkitError(
      'INVALID_ARGUMENT',
      `${image} is a block device: its snapshots can't be kept beside it`,
      {
        operation: 'find snapshots',
        context: { path: image },
        hint: 'Name a folder for them, always the same: --folder FOLDER.',
      },
    );
  return snapshotFolder((await fileSystem.realPath?.(image)) ?? image);
}

/** The snapshots of an image; undefined where it has none. @throws SNAPSHOT_RECORD_INVALID, NOT_FOUND, IO_FAILED */
export async function findStore(
  host: Host,
  image: string,
  folder?: string,
): Promise<SnapshotStore | undefined> {
  if (folder === undefined && (await host.fileSystem.kind(image)) === 'device') return undefined;
  return openStore(await folderOf(host, image, folder), snapshotAccess(host));
}
