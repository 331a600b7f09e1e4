/**
 * `snapshot delete`: deletes snapshots; older ones keep what they need.
 */
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import type { SnapshotSet } from '../../layers/snapshots.js';
import type { Host, ProgressSink } from '../host.js';
import { findStore } from './access.js';
import { openSet, type SnapshotChoice } from './open-set.js';
import type { SnapshotDeleteResult } from './types.js';
import { deleteVolume, volumeName } from './volume.js';

export interface SnapshotDeleteOptions extends SnapshotChoice {
  /** Names; empty with `all`. */
  names: readonly string[];
  /** All of them. */
  all?: boolean;
  dryRun?: boolean;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

/** Oldest first: then nothing is moved to one that goes as well. */
function namesToDelete(set: SnapshotSet, { names, all = false }: SnapshotDeleteOptions): string[] {
  const { snapshots } = set.store.record;
  for (const name of names) {
    if (snapshots.some((entry) => entry.name === name)) continue;
    throw new VhdkitError('NOT_FOUND', `${set.volume.label} has no snapshot '${name}'`, {
      operation: 'delete snapshot',
      context: { path: set.volume.label, snapshot: name },
      hint: `Look which there are: vhdkit snapshot list ${set.volume.label}`,
    });
  }
  return snapshots.filter(({ name }) => all || names.includes(name)).map(({ name }) => name);
}

/** @throws what `SnapshotSet.delete` throws */
export async function deleteIn(
  host: Host,
  set: SnapshotSet,
  options: SnapshotDeleteOptions,
): Promise<SnapshotDeleteResult> {
  const started = host.clock.now();
  const { path, dryRun = false, signal, progress } = options;
  const names = namesToDelete(set, options);
  let moved = 0;
  for (const name of dryRun ? [] : names) {
    const base = moved;
    await set.delete(name, {
      ...(signal ? { signal } : {}),
      onProgress: (bytes) => {
        moved = base + bytes;
        progress?.update(moved, set.volume.size);
      },
    });
  }
  return { path, snapshots: names, moved, elapsedMs: host.clock.now() - started, dryRun };
}

/**
 * @throws IN_USE, NOT_FOUND, NO_SPACE, CANCELLED (deleting it again goes on), SNAPSHOT_RECORD_INVALID, IO_FAILED
 */
export async function deleteSnapshots(
  host: Host,
  options: SnapshotDeleteOptions,
): Promise<SnapshotDeleteResult> {
  const { path, control, signal, dryRun = false } = options;
  const volume = await volumeAmong(host, options);
  const names = options.names.filter((name) => name !== volume);
  if (volume === undefined) return deleteOthers(host, options);
  const result = (await hasOthers(host, { ...options, names }))
    ? await deleteOthers(host, { ...options, names })
    : { path, snapshots: [], moved: 0, elapsedMs: 0, dryRun };
  const all = { ...result, snapshots: [...result.snapshots, volume] };
  if (dryRun) return all;
  if (control === undefined) await deleteVolume(host, path);
  else {
    const { deleteServedVolume } = await import('./live-volume.js');
    await deleteServedVolume(host, { control, path, signal }, volume);
  }
  return all;
}

/** The name of the image's volume, if it is to go. */
async function volumeAmong(
  host: Host,
  { path, names, all = false, control, signal }: SnapshotDeleteOptions,
): Promise<string | undefined> {
  let name: string | undefined;
  if (control !== undefined) {
    const { servedVolumeName } = await import('./live-volume.js');
    name = await servedVolumeName(host, { control, path, signal });
  } else {
    // A record that can't be read is in the way only of what is about it.
    name = await volumeName(host, path).catch((error: unknown) => {
      if (all) throw error;
      return undefined;
    });
  }
  return name !== undefined && (all || names.includes(name)) ? name : undefined;
}

/** Whether there is anything to delete beside the volume: an image that is not raw has nothing else. */
async function hasOthers(host: Host, options: SnapshotDeleteOptions): Promise<boolean> {
  const { path, names, all = false, control, folder, signal } = options;
  if (names.length > 0 || !all) return names.length > 0;
  if (control === undefined)
    return ((await findStore(host, path, folder))?.record.snapshots ?? []).length > 0;
  const { findServed } = await import('./live.js');
  try {
    await findServed(host, { control, path, signal }, 'snapshots');
    return true;
  } catch (error) {
    if (isVhdkitError(error) && error.code === 'NOT_FOUND') return false;
    throw error;
  }
}

async function deleteOthers(host: Host, options: SnapshotDeleteOptions): Promise<SnapshotDeleteResult> {
  const { control, path, names, all, dryRun, signal } = options;
  if (control !== undefined) {
    const { askServer } = await import('./live.js');
    const body = { names, all, dryRun };
    return askServer(host, { control, path, signal }, { method: 'POST', segments: ['delete'], body });
  }
  const recorded = all ? ((await findStore(host, path, options.folder))?.record.snapshots ?? []) : [];
  const expendable = dryRun ? [] : [...names, ...recorded.map(({ name }) => name)];
  const opened = await openSet(host, options, { expendable });
  try {
    return await deleteIn(host, opened.set, options);
  } finally {
    await opened.close();
  }
}
