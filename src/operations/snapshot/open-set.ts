/**
 * Opening an image that nobody else uses, together with its snapshots.
 *
 * Invariant: whoever can change anything holds the image's lock.
 */
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import { probeFormat } from '../../formats/registry.js';
import type { HeldLock } from '../../io/file-system.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { type AttachedSet, type AttachOptions, attachSnapshots, rawDisk } from '../../layers/snapshots.js';
import type { Host } from '../host.js';
import { openToChange } from '../token/own-changes.js';
import { type FolderAccess, folderOf, snapshotAccess } from './access.js';

export interface SnapshotChoice {
  /** The image or block device. */
  path: string;
  /** Where its snapshots are; default: beside the image. */
  folder?: string;
  /** Control socket of the server that has the image. */
  control?: string;
  /** For tests. */
  folders?: FolderAccess;
}

/** Snapshots are of raw images. @throws UNSUPPORTED */
export async function assertRaw(file: RandomAccessFile): Promise<void> {
  const format = await probeFormat(file);
  if (format === 'raw') return;
  throw new VhdkitError(
    'UNSUPPORTED',
    `${file.path} is a ${format.toUpperCase()}: snapshots are of raw images`,
    {
      operation: 'open snapshots',
      context: { path: file.path },
      hint: `Put a differencing image on top of it instead: vhdkit create CHILD --parent ${file.path}.`,
    },
  );
}

export interface OpenedSet extends AttachedSet {
  file: RandomAccessFile;
  /** Flushes and closes everything, and gives the lock back. */
  close(): Promise<void>;
}

/**
 * @throws IN_USE (somebody writes it: ask its server), UNSUPPORTED (not raw), NOT_FOUND, and what `attachSnapshots`
 *   throws
 */
export async function openSet(
  host: Host,
  choice: SnapshotChoice,
  options: Pick<AttachOptions, 'provider' | 'expendable'> = {},
): Promise<OpenedSet> {
  const { path } = choice;
  const { fileSystem, timer } = host;
  const folder = await folderOf(host, path, choice.folder);
  const lock = await takeLock(host, path);
  let file: RandomAccessFile | undefined;
  try {
    file = await openToChange(host, path);
    // With a record it is known to be raw, whatever it begins with.
    if ((await fileSystem.kind(folder)) === 'absent') await assertRaw(file);
    const access = snapshotAccess(host, choice.folders);
    const disk = rawDisk(file, timer);
    const attached = await attachSnapshots(disk, file, access, { ...options, folder, writable: true });
    return {
      ...attached,
      file,
      async close() {
        try {
          await attached.set.close();
        } finally {
          await lock.release();
        }
      },
    };
  } catch (error) {
    await file?.close();
    await lock.release();
    throw error;
  }
}

/** The image's lock; says what to do when its server has it. @throws IN_USE, PERMISSION_DENIED, IO_FAILED */
export async function takeLock(host: Host, path: string): Promise<HeldLock> {
  try {
    return await host.fileSystem.lock(path);
  } catch (error) {
    if (!isVhdkitError(error) || error.code !== 'IN_USE') throw error;
    throw new VhdkitError('IN_USE', error.message, {
      operation: 'open snapshots',
      context: error.context,
      cause: error,
      hint: 'If vhdkit serves it, ask its server: --control SOCKET. Otherwise close whatever holds it.',
    });
  }
}
