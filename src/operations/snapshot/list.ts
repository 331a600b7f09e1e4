/**
 * `snapshot list`: what is recorded of an image's snapshots, and whether they are of use. Looks, changes nothing.
 */
import { openImage } from '../../formats/registry.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { findLost, stateOf } from '../../layers/snapshots.js';
import type { Host } from '../host.js';
import { findStore, folderOf } from './access.js';
import { factsOf } from './facts.js';
import type { SnapshotChoice } from './open-set.js';
import type { SnapshotListResult, SnapshotSummary } from './types.js';
import { findVolume } from './volume.js';

/** @throws NOT_FOUND, SNAPSHOT_RECORD_INVALID, INVALID_ARGUMENT, PERMISSION_DENIED, IO_FAILED */
export async function listSnapshots(host: Host, options: SnapshotChoice): Promise<SnapshotListResult> {
  const { path } = options;
  const file = await host.fileSystem.open(path);
  try {
    const folder = await folderOf(host, path, options.folder);
    const store = await findStore(host, path, folder);
    const volume = (await findVolume(host, path)) ?? null;
    // With a record it is known to be raw, whatever it begins with.
    const virtualSize = store ? file.size() : (await openImage(file)).virtualSize;
    const none = { path, folder, virtualSize, chunkSize: null, restoring: null, volume };
    const inUse = (store ?? volume) && (await host.fileSystem.holder(path)) !== undefined;
    if (!store) return { ...none, image: inUse ? 'in-use' : 'unchanged', snapshots: [] };
    const image = inUse ? 'in-use' : stateOf(store, file);
    if (image === 'changed') await store.giveUpAll(file.size(), false);
    const { chunkSize, restoring } = store.record;
    const snapshots = [];
    const lost = await findLost(store, inUse === true);
    for (const entry of store.record.snapshots)
      snapshots.push(await factsOf(store, entry, { loss: lost.get(entry.id) }));
    const target = restoring === undefined ? undefined : store.entry(restoring);
    return { ...none, chunkSize, image, restoring: target?.name ?? null, snapshots };
  } finally {
    await file.close();
  }
}

/** What is recorded of an image's snapshots, in short; undefined where it has none at all, or none can be told. */
export async function summarizeSnapshots(
  host: Host,
  file: RandomAccessFile,
): Promise<SnapshotSummary | undefined> {
  const store = await findStore(host, file.path).catch(() => undefined);
  const { snapshots, restoring } = store?.record ?? { snapshots: [] };
  if (!store || snapshots.length === 0) return undefined;
  const inUse = (await host.fileSystem.holder(file.path)) !== undefined;
  const isLost = !inUse && stateOf(store, file) === 'changed';
  const lost = await findLost(store, inUse);
  const broken = isLost ? snapshots : snapshots.filter(({ id, state }) => state === 'broken' || lost.has(id));
  const target = restoring === undefined ? undefined : store.entry(restoring)?.name;
  return {
    snapshots: snapshots.length,
    broken: broken.length,
    ...(target === undefined ? {} : { restoring: target }),
  };
}
