/**
 * Opening the devices of all recorded snapshots that are of use.
 *
 * Invariant: a snapshot reads through its own device and all newer ones, so when one is lost, it and all older ones
 * are. That is only believed of those that are going to be deleted; else it is an error, and somebody may put
 * the device back.
 */
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import type { WriteOnceDevice } from '../../block/write-once-device.js';
import { SnapshotLayer } from './catalogue.js';
import type { SnapshotEntry } from './record.js';
import type { DeviceShape, SnapshotStore } from './store.js';

export interface OpenLayersOptions {
  /** False: for reading only. */
  writable: boolean;
  /** Names of snapshots that are going to be deleted: that their devices are not there is no reason to refuse. */
  expendable?: readonly string[];
}

/** What no waiting cures. */
const LOST: ReadonlySet<string> = new Set([
  'NOT_FOUND',
  'IMAGE_CORRUPT',
  'FORMAT_UNKNOWN',
  'WRITE_ONCE_MISMATCH',
]);

/** Whether it has a device that is read from: not if all were lost at once, or everything up to it. */
function isUseful(entry: SnapshotEntry): boolean {
  return entry.reason === undefined || entry.reason === 'copy-failed';
}

/** The device of a snapshot; undefined if it is lost and nobody minds. */
async function openDevice(
  store: SnapshotStore,
  { name, device }: SnapshotEntry,
  shape: DeviceShape,
  { writable, expendable = [] }: OpenLayersOptions,
): Promise<WriteOnceDevice | undefined> {
  const path = store.devicePath(device);
  try {
    return await store.access.devices.open(path, { ...shape, writable });
  } catch (error) {
    if (!isVhdkitError(error) || !LOST.has(error.code)) throw error;
    if (expendable.includes(name)) return undefined;
    throw new VhdkitError(error.code, `The device of snapshot '${name}' can't be used: ${error.message}`, {
      operation: 'open snapshots',
      context: { ...error.context, path, snapshot: name },
      cause: error,
      hint: `Put it back, or give up '${name}' and all older snapshots: vhdkit snapshot delete IMAGE ${name}`,
    });
  }
}

/**
 * Oldest first.
 * @throws NOT_FOUND, WRITE_ONCE_MISMATCH, IMAGE_CORRUPT, FORMAT_UNKNOWN (a device is lost), IN_USE, IO_FAILED
 */
export async function openLayers(store: SnapshotStore, options: OpenLayersOptions): Promise<SnapshotLayer[]> {
  const { imageSize: size, chunkSize, imageId: primaryId, snapshots } = store.record;
  const layers: SnapshotLayer[] = [];
  try {
    // Newest first: what one that is lost takes with it is known then.
    for (const entry of snapshots.filter(isUseful).reverse()) {
      const device = await openDevice(store, entry, { size, chunkSize, primaryId }, options);
      if (!device) {
        await store.giveUpThrough(entry.id);
        break;
      }
      layers.unshift(new SnapshotLayer(entry, device));
    }
    return layers;
  } catch (error) {
    for (const { device } of layers) await device.close().catch(() => undefined);
    throw error;
  }
}

/** Why a snapshot can't be read as things stand: its device, or a newer one, is gone or another one; or it is damaged. */
export type LossReason = 'device-lost' | 'damaged';

async function lossOf(
  store: SnapshotStore,
  { device }: SnapshotEntry,
  isInUse: boolean,
): Promise<LossReason | undefined> {
  const { access, record } = store;
  const { imageSize: size, chunkSize, imageId: primaryId } = record;
  const path = store.devicePath(device);
  if (isInUse) return (await access.fileSystem.kind(path)) === 'absent' ? 'device-lost' : undefined;
  try {
    await access.devices.look(path, { size, chunkSize, primaryId });
    return undefined;
  } catch (error) {
    // What can't be told is not said.
    if (!isVhdkitError(error) || !LOST.has(error.code)) return undefined;
    return error.code === 'IMAGE_CORRUPT' ? 'damaged' : 'device-lost';
  }
}

/**
 * Snapshots that count as intact and can't be read as things stand, by id. Looks, and changes nothing: a device can be put
 * back. @param isInUse somebody has the image open, and found its devices sound: whether they are there is all that is asked
 */
export async function findLost(
  store: SnapshotStore,
  isInUse: boolean,
): Promise<ReadonlyMap<string, LossReason>> {
  const lost = new Map<string, LossReason>();
  let reason: LossReason | undefined;
  for (const entry of store.record.snapshots.filter(isUseful).reverse()) {
    reason = reason ? 'device-lost' : await lossOf(store, entry, isInUse);
    if (reason && entry.state === 'intact') lost.set(entry.id, reason);
  }
  return lost;
}

/** Why a recorded snapshot has no layer. */
export function lostSnapshot(disk: string, entry: SnapshotEntry | undefined): VhdkitError {
  const name = entry?.name ?? '';
  const why =
    entry?.reason === 'image-changed'
      ? 'the image was changed by something else than vhdkit since'
      : 'its device, or that of a newer snapshot, is gone';
  return new VhdkitError('SNAPSHOT_BROKEN', `The snapshot '${name}' of ${disk} is broken: ${why}`, {
    operation: 'open snapshot',
    context: { path: disk, snapshot: name, reason: entry?.reason ?? 'device-lost' },
    hint: `Delete it: vhdkit snapshot delete ${disk} ${name}`,
  });
}
