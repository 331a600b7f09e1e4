/**
 * `snapshot restore`: puts a raw image back to one of its snapshots.
 *
 * Invariant: an interrupted run leaves an image that says that it is half-way, and any later one completes it.
 */
import { VhdkitError } from '../../base/errors.js';
import type { AttachedSet } from '../../layers/snapshots.js';
import type { Host, ProgressSink } from '../host.js';
import { openSet, type SnapshotChoice } from './open-set.js';
import { refuseVolume } from './present.js';
import type { SnapshotRestoreResult } from './types.js';

export interface SnapshotRestoreOptions extends SnapshotChoice {
  name: string;
  /** Name of a snapshot to make of what is there now. */
  keep?: string;
  /** Kind of its write-once device. */
  device?: string;
  dryRun?: boolean;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

/** Bytes that were written since a snapshot, at most. */
async function changedBytes({ set }: AttachedSet, name: string): Promise<number> {
  const view = set.view(name);
  let bytes = 0;
  const window = 64 * 1024 * 1024;
  for (let at = 0; at < view.size; at += window) {
    for (const run of await set.changes(name, at, Math.min(window, view.size - at)))
      if (run.changed) bytes += run.length;
  }
  return bytes;
}

/** @throws what `SnapshotSet.restore` throws */
export async function restoreIn(
  host: Host,
  attached: AttachedSet,
  options: SnapshotRestoreOptions,
): Promise<SnapshotRestoreResult> {
  const started = host.clock.now();
  const { path, name, keep, device = 'sparse', dryRun = false, signal, progress } = options;
  const { set, tally } = attached;
  const total = await changedBytes(attached, name);
  const before = { ...tally };
  const restored = dryRun
    ? total
    : await set.restore(name, {
        ...(signal ? { signal } : {}),
        ...(keep === undefined ? {} : { keep: { name: keep, kind: device } }),
        onProgress: (bytes) => progress?.update(Math.min(bytes, total), total),
      });
  return {
    path,
    snapshot: name,
    kept: dryRun ? null : (keep ?? null),
    restored,
    bytes: {
      shared: tally.shared - before.shared,
      kernelCopied: tally.kernelCopied - before.kernelCopied,
      buffered: tally.buffered - before.buffered,
      zeroed: tally.zeroed - before.zeroed,
    },
    elapsedMs: host.clock.now() - started,
    dryRun,
  };
}

/**
 * @throws IN_USE, NOT_FOUND, SNAPSHOT_BROKEN, ALREADY_EXISTS (`keep`), HAS_SNAPSHOTS (a preserved volume, which would
 *   show it), NO_SPACE, CANCELLED (the next run goes on), SNAPSHOT_RECORD_INVALID, IO_FAILED
 */
export async function restoreSnapshot(
  host: Host,
  options: SnapshotRestoreOptions,
): Promise<SnapshotRestoreResult> {
  const { path, keep, control, name, device, dryRun, signal } = options;
  if (control !== undefined) {
    const { askServer } = await import('./live.js');
    const body = { dryRun, ...(keep === undefined ? {} : { keep }), ...(device ? { device } : {}) };
    return askServer(host, { control, path, signal }, { method: 'POST', segments: [name, 'restore'], body });
  }
  await refuseVolume(host, path);
  const opened = await openSet(host, options);
  try {
    const { restoring } = opened.set.volume;
    if (restoring && keep !== undefined)
      throw new VhdkitError('IN_USE', `${path} is half-way back to '${restoring.source.name}'`, {
        operation: 'restore snapshot',
        context: { path, snapshot: restoring.source.name },
        hint: 'Finish that first, without --keep.',
      });
    return await restoreIn(host, opened, options);
  } finally {
    await opened.close();
  }
}
