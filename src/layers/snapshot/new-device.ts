/**
 * The write-once device of a new snapshot: made, or found empty where somebody wants it to be.
 *
 * Invariants: a device serves one snapshot of one image, for ever: what two shared would be lost for both. Nothing
 * that is not ours is written over or removed. A device that no snapshot came of is taken away again.
 */
import { isAbsolute } from 'node:path';
import { formatSize, isPowerOfTwo } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { WriteOnceDevice } from '../../block/write-once-device.js';
import { sameFile } from '../../io/file-system.js';
import type { DeviceShape, SnapshotStore } from './store.js';

/**
 * The chunk size of a new snapshot: what is asked for, else that of the others, else the usual one as far as the kind of
 * device has it. @param hasOthers snapshots whose chunks must be as large @throws INVALID_ARGUMENT
 */
export function newChunkSize(
  store: SnapshotStore,
  disk: string,
  hasOthers: boolean,
  { kind, chunkSize: asked }: { kind: string; chunkSize?: number },
): number {
  const { access, record } = store;
  const { least, most } = access.devices.chunkSizes(kind);
  const chunkSize = asked ?? (hasOthers ? record.chunkSize : Math.max(record.chunkSize, least));
  const refuse = (message: string, hint: string): never => {
    throw new VhdkitError('INVALID_ARGUMENT', message, {
      operation: 'create snapshot',
      context: { path: disk, chunkSize },
      hint,
    });
  };
  if (hasOthers && chunkSize !== record.chunkSize)
    refuse(
      `The snapshots of ${disk} have chunks of ${formatSize(record.chunkSize)}, not ${formatSize(chunkSize)}`,
      'Leave the chunk size away, or delete the other snapshots first.',
    );
  if (!isPowerOfTwo(chunkSize) || chunkSize < least || chunkSize > most)
    refuse(
      `A snapshot in a ${kind} device can't have chunks of ${formatSize(chunkSize)}`,
      `Powers of two from ${formatSize(least)} to ${formatSize(most)} are possible there.`,
    );
  return chunkSize;
}

/** @throws IN_USE where a recorded snapshot has, or had, its device there */
async function assertFree(store: SnapshotStore, path: string): Promise<void> {
  const { fileSystem } = store.access;
  const wanted = await fileSystem.identity(path);
  const { snapshots, leftovers } = store.record;
  const taken = [
    ...snapshots.map(({ name, device }) => ({ device, owner: `the snapshot '${name}'` })),
    ...leftovers.map((device) => ({ device, owner: 'a snapshot that was deleted' })),
  ];
  for (const { device, owner } of taken) {
    const there = store.devicePath(device);
    const found = there === path ? wanted : await fileSystem.identity(there);
    if (there !== path && !(wanted && found && sameFile(wanted, found))) continue;
    throw new VhdkitError('IN_USE', `${path} belongs to ${owner}`, {
      operation: 'create snapshot',
      context: { path },
      hint: 'Each snapshot needs a device of its own: name another place.',
    });
  }
}

/**
 * A device that is empty and open. What `take` throws takes a device away again that was made here.
 * @param path absolute @param take makes it a snapshot's
 * @throws INVALID_ARGUMENT, IN_USE, WRITE_ONCE_MISMATCH, TARGET_TOO_SMALL, NO_SPACE, IO_FAILED, and what `take` throws
 */
export async function withNewDevice<T>(
  store: SnapshotStore,
  { kind, path, shape }: { kind: string; path: string; shape: DeviceShape },
  take: (device: WriteOnceDevice) => Promise<T>,
): Promise<T> {
  const { devices, fileSystem } = store.access;
  await assertFree(store, path);
  // A block device is always there: whether something is on it is looked at when it is laid out.
  const isThere = (await fileSystem.kind(path)) === 'file';
  if (!isThere) await devices.create(kind, path, shape);
  try {
    const device = await devices.open(path, { ...shape, writable: true, empty: true });
    try {
      return await take(device);
    } catch (error) {
      await device.close();
      throw error;
    }
  } catch (error) {
    if (!isThere) await store.removeDevice(path).catch(() => undefined);
    throw error;
  }
}

/** Removes the device of a deleted snapshot, unless something else lies there by now. */
export async function removeOldDevice(store: SnapshotStore, device: string): Promise<void> {
  const path = store.devicePath(device);
  // What lies in the folder is ours by its name.
  const isOurs = !isAbsolute(device) || (await store.access.devices.isOf(path, store.record.imageId));
  if (isOurs) await store.removeDevice(path);
}
