/**
 * `snapshot delete`: deletes snapshots; older ones keep what they need.
 */
import { VhdkitError } from '../../base/errors.js';
import type { SnapshotSet } from '../../layers/snapshots.js';
import type { Host, ProgressSink } from '../host.js';
import { openSet, type SnapshotChoice } from './open-set.js';
import type { SnapshotDeleteResult } from './types.js';

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
  const { control, path, names, all, dryRun, signal } = options;
  if (control !== undefined) {
    const { askServer } = await import('./live.js');
    const body = { names, all, dryRun };
    const call = { control, path, method: 'POST' as const, segments: ['delete'], body };
    return askServer(host, signal ? { ...call, signal } : call);
  }
  const opened = await openSet(host, options);
  try {
    return await deleteIn(host, opened.set, options);
  } finally {
    await opened.close();
  }
}
