/**
 * Snapshots put together: a raw disk, write-once devices of any kind, and the folder where both are recorded.
 *
 * The one place that knows the snapshot layer, write-once devices and raw disks at the same time; for whoever
 * opens images (operations). An image that something else changed has no intact snapshots: that is found out
 * here, and recorded by whoever may write.
 */

import { KiB } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { VhdkitError } from '../base/errors.js';
import type { RandomSource } from '../base/random.js';
import type { Timer } from '../base/timer.js';
import type { BlockDevice } from '../block/block-device.js';
import type { FileSystem } from '../io/file-system.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import { CopyAndWriter, type CopyTally } from '../offload/copy-and-write.js';
import type { ProviderChoice } from '../offload/transfer-types.js';
import { FileDevice } from './image/file-device.js';
import { type ImageState, imageState } from './snapshot/image-state.js';
import type { OpenMark } from './snapshot/record.js';
import { SnapshotSet } from './snapshot/snapshot-set.js';
import { type DeviceAccess, SnapshotStore, type StoreAccess } from './snapshot/store.js';
import { snapshotFolder } from './snapshot-folder.js';
import {
  chunkSizesOf,
  createWriteOnce,
  deleteWriteOnce,
  isWriteOnceOf,
  type LocalKind,
  lookAtWriteOnce,
  openWriteOnce,
} from './write-once/open.js';

export { FAILURE_POLICIES, type FailurePolicy } from './failure-policy.js';
export type { ImageState } from './snapshot/image-state.js';
export { sealedFile, viewFile } from './snapshot/immutable-file.js';
export { findLost, type LossReason } from './snapshot/open-layers.js';
export type { BreakReason, SnapshotEntry, SnapshotRecord } from './snapshot/record.js';
export type { SweepOptions } from './snapshot/restore-run.js';
export { type NewSnapshot, SnapshotSet } from './snapshot/snapshot-set.js';
export { SnapshotStore } from './snapshot/store.js';
export { snapshotFolder };

/** Kinds of write-once devices that snapshots can be kept in. */
export const SNAPSHOT_DEVICES: readonly LocalKind[] = ['sparse', 'vhdx', 'thin'];
export const DEFAULT_CHUNK_SIZE = 64 * KiB;
/** Longer than anybody waits: what flushes when it is done needs no reminder. */
const NEVER = 0x7fff_ffff;

/** What snapshots need of the machine. */
export interface SnapshotAccess {
  fileSystem: FileSystem;
  clock: Clock;
  random: RandomSource;
  timer: Timer;
  /** Makes a folder if it is not there. */
  makeFolder(path: string): Promise<void>;
  /** Removes it if it is empty. */
  removeFolder(path: string): Promise<void>;
  self: Omit<OpenMark, 'since'>;
}

/** @throws INVALID_ARGUMENT */
function knownKind(kind: string): LocalKind {
  const known = SNAPSHOT_DEVICES.find((each) => each === kind);
  if (known) return known;
  throw new VhdkitError('INVALID_ARGUMENT', `There is no kind of device '${kind}'`, {
    operation: 'create snapshot',
    hint: `Choose one of: ${SNAPSHOT_DEVICES.join(', ')}.`,
  });
}

function deviceAccess({ fileSystem, random }: SnapshotAccess): DeviceAccess {
  return {
    chunkSizes: (kind) => chunkSizesOf(knownKind(kind)),
    create: (kind, path, shape) => createWriteOnce(knownKind(kind), path, { ...shape, fileSystem, random }),
    open: (path, expected) => openWriteOnce(path, { ...expected, fileSystem, random }),
    look: (path, expected) => lookAtWriteOnce(path, { ...expected, fileSystem }),
    remove: (path) => deleteWriteOnce(path, { fileSystem }),
    isOf: (path, primaryId) => isWriteOnceOf(path, primaryId, { fileSystem, random }),
  };
}

function storeAccess(access: SnapshotAccess): StoreAccess {
  return { ...access, devices: deviceAccess(access) };
}

/** The snapshots that are recorded in a folder; undefined where there are none. @throws SNAPSHOT_RECORD_INVALID */
export function openStore(folder: string, access: SnapshotAccess): Promise<SnapshotStore | undefined> {
  return SnapshotStore.open(folder, storeAccess(access));
}

/** A raw file as a disk. Closing it closes the file. */
export function rawDisk(file: RandomAccessFile, timer: Timer): BlockDevice {
  return new FileDevice(file, { timer, flushAfter: NEVER });
}

export interface AttachOptions {
  /** Where the snapshots are. */
  folder: string;
  /** False: neither disk nor snapshots are going to be changed. */
  writable: boolean;
  provider?: ProviderChoice;
  /** Names of snapshots whose devices may be lost, because they are going to be deleted. */
  expendable?: readonly string[];
}

export interface AttachedSet {
  set: SnapshotSet;
  /** What became of the image since it was left. */
  state: ImageState;
  /** How chunks were copied so far. */
  tally: Readonly<CopyTally>;
}

/**
 * Puts the snapshots of a raw disk on top of it. Closing the set closes the disk. Whoever calls it with `writable`
 * has locked the image.
 * @param file the disk's bytes as they lie, open as long as the disk is
 * @throws SNAPSHOT_RECORD_INVALID, and what opening the devices throws
 */
export async function attachSnapshots(
  disk: BlockDevice,
  file: RandomAccessFile,
  access: SnapshotAccess,
  options: AttachOptions,
): Promise<AttachedSet> {
  const { folder, writable, provider, expendable = [] } = options;
  const { clock, random } = access;
  const found = await openStore(folder, access);
  const real = (await access.fileSystem.realPath?.(file.path)) ?? file.path;
  if (folder !== snapshotFolder(real)) await found?.assertImage(real);
  const shape = { path: real, size: disk.size, chunkSize: DEFAULT_CHUNK_SIZE };
  const store = found ?? SnapshotStore.begin(folder, storeAccess(access), shape);
  const state: ImageState = found ? imageState(store.record, file) : 'unchanged';
  if (state === 'changed') await store.giveUpAll(disk.size, writable);
  if (found && writable) await store.sweep();
  const copier = new CopyAndWriter({ clock, random, ...(provider ? { provider } : {}) });
  const set = await SnapshotSet.open({ primary: disk, file, store, copier, writable, expendable });
  // What can't be removed now stays recorded: that is no reason to refuse the image.
  if (writable) await set.removeLeftovers().catch(() => undefined);
  return { set, state, tally: copier.tally };
}

/** What became of an image since its snapshots were left; looking changes nothing. */
export function stateOf(store: SnapshotStore, file: RandomAccessFile): ImageState {
  return imageState(store.record, file);
}
