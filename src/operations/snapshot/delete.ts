/**
 * `snapshot delete`: deletes snapshots; older ones keep what they need.
 */
import { VhdkitError } from '../../base/errors.js';
import type { SnapshotSet } from '../../layers/snapshots.js';
import type { Host, ProgressSink } from '../host.js';
import { findStore } from './access.js';
import { openSet, type SnapshotChoice } from './open-set.js';
import type { SnapshotDeleteResult } from './types.js';
import { deleteVolume, findVolume } from './volume.js';

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
  const volume = await volumeAmong(host, options);
  const others = options.names.filter((name) => name !== volume);
  const onlyVolume = volume !== undefined && others.length === 0 && !options.all;
  const result = onlyVolume ? nothingOf(options) : await deleteOthers(host, { ...options, names: others });
  if (volume === undefined) return result;
  const { path, control, dryRun } = options;
  if (!dryRun)
    await deleteVolume(host, { path, name: volume, ...(control === undefined ? {} : { control }) });
  return { ...result, snapshots: [...result.snapshots, volume] };
}

/** The name of the image's volume, if it is to go. */
async function volumeAmong(
  host: Host,
  { path, names, all }: SnapshotDeleteOptions,
): Promise<string | undefined> {
  // With a server the image may go by its export's name, and then nothing lies beside it.
  const facts = await findVolume(host, path).catch(() => undefined);
  return facts && (all || names.includes(facts.name)) ? facts.name : undefined;
}

function nothingOf({ path, dryRun = false }: SnapshotDeleteOptions): SnapshotDeleteResult {
  return { path, snapshots: [], moved: 0, elapsedMs: 0, dryRun };
}

async function deleteOthers(host: Host, options: SnapshotDeleteOptions): Promise<SnapshotDeleteResult> {
  const { control, path, names, all, dryRun, signal } = options;
  if (control !== undefined) {
    const { askServer } = await import('./live.js');
    const body = { names, all, dryRun };
    const call = { control, path, method: 'POST' as const, segments: ['delete'], body };
    return askServer(host, signal ? { ...call, signal } : call);
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
