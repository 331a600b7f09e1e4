/**
 * Snapshots as results tell them.
 */
import type { LossReason, SnapshotEntry, SnapshotSet, SnapshotStore } from '../../layers/snapshots.js';
import type { SnapshotFacts } from './types.js';

/** What a device takes of its storage: asked of an open set where there is one, else of the file. */
async function allocatedBytes(
  store: SnapshotStore,
  entry: SnapshotEntry,
  set: SnapshotSet | undefined,
): Promise<number | null> {
  const layer = set?.volume.catalogue.layers.find(({ id }) => id === entry.id);
  if (layer) return layer.device.allocatedBytes();
  try {
    const file = await store.access.fileSystem.open(store.devicePath(entry.device));
    try {
      return await file.allocatedBytes();
    } finally {
      await file.close();
    }
  } catch {
    // The list is for looking at what is wrong, too.
    return null;
  }
}

export async function factsOf(
  store: SnapshotStore,
  entry: SnapshotEntry,
  { set, loss }: { set?: SnapshotSet; loss?: LossReason | undefined } = {},
): Promise<SnapshotFacts> {
  const { name, id, created, kind } = entry;
  const state = loss ? 'lost' : entry.state;
  const reason = loss ?? entry.reason;
  return {
    name,
    id,
    created,
    state,
    reason: reason ?? null,
    kind,
    device: store.devicePath(entry.device),
    allocatedBytes: await allocatedBytes(store, entry, set),
  };
}
