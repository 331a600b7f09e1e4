/**
 * `snapshot create`: a snapshot of a raw image that nobody uses.
 */
import { resolve } from 'node:path';
import { VhdkitError } from '../../base/errors.js';
import type { FailurePolicy, NewSnapshot, SnapshotSet } from '../../layers/snapshots.js';
import type { Host } from '../host.js';
import { factsOf } from './facts.js';
import { openSet, type SnapshotChoice } from './open-set.js';
import type { SnapshotCreateResult } from './types.js';
import { volumeName } from './volume.js';

export interface SnapshotCreateOptions extends SnapshotChoice {
  /** Default: the time, as in `2026-01-31T174502Z`. */
  name?: string;
  /** Kind of the write-once device; default `sparse`. */
  device?: string;
  /** Where the write-once device is to be, or is (empty); default: in the folder. */
  writeOnce?: string;
  /** Bytes; default: that of the other snapshots, else 64 KiB. */
  chunkSize?: number;
  /** What happens to writes whose old content can't be kept; default: they fail. */
  onFailure?: FailurePolicy;
  dryRun?: boolean;
  signal?: AbortSignal;
}

/** A name that sorts by time. */
export function nameOfTime(milliseconds: number): string {
  const [date, time] = isoText(milliseconds).split('T');
  return `${date}T${(time ?? '').slice(0, 8).replaceAll(':', '')}Z`;
}

function isoText(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

/** Names of snapshots that became useless because something else changed the image. */
export function lostNames(set: SnapshotSet): string[] {
  const { snapshots } = set.store.record;
  return snapshots.filter(({ reason }) => reason === 'image-changed').map(({ name }) => name);
}

/** Makes a snapshot in a set that is open. @throws what `SnapshotSet.create` throws */
export async function createIn(
  host: Host,
  set: SnapshotSet,
  path: string,
  options: Omit<SnapshotCreateOptions, keyof SnapshotChoice>,
): Promise<SnapshotCreateResult> {
  const { name = nameOfTime(host.clock.now()), device: kind = 'sparse' } = options;
  const { writeOnce, chunkSize, onFailure, dryRun = false } = options;
  const wanted: NewSnapshot = {
    name,
    kind,
    ...(writeOnce === undefined ? {} : { device: resolve(writeOnce) }),
    ...(onFailure ? { policy: onFailure } : {}),
    ...(chunkSize === undefined ? {} : { chunkSize }),
  };
  const entry = dryRun ? set.foresee(wanted) : await set.create(wanted);
  const { store } = set;
  return {
    path,
    folder: store.folder,
    chunkSize: dryRun ? set.chunkSizeFor(wanted) : store.record.chunkSize,
    snapshot: await factsOf(store, entry, { set }),
    lost: lostNames(set),
    dryRun,
  };
}

/** Both are exports of the same kind of name. @throws ALREADY_EXISTS */
async function assertNotVolume(host: Host, path: string, name: string | undefined): Promise<void> {
  if (name === undefined || (await volumeName(host, path).catch(() => undefined)) !== name) return;
  throw new VhdkitError('ALREADY_EXISTS', `${path} has a preserved volume '${name}'`, {
    operation: 'create snapshot',
    context: { path, name },
    hint: 'Choose another name.',
  });
}

/**
 * @throws IN_USE (somebody writes the image), UNSUPPORTED (not raw), INVALID_ARGUMENT, ALREADY_EXISTS,
 *   WRITE_ONCE_MISMATCH, NO_SPACE, NOT_FOUND, SNAPSHOT_RECORD_INVALID, IO_FAILED
 */
export async function createSnapshot(
  host: Host,
  options: SnapshotCreateOptions,
): Promise<SnapshotCreateResult> {
  const { control, path, folder: _, signal, ...rest } = options;
  if (control !== undefined) {
    const { absolute, askServer } = await import('./live.js');
    const writeOnce = absolute(rest.writeOnce);
    const body = { ...rest, ...(writeOnce === undefined ? {} : { writeOnce }) };
    return askServer(host, { control, path, signal }, { method: 'POST', body });
  }
  await assertNotVolume(host, path, rest.name);
  const opened = await openSet(host, options);
  try {
    return await createIn(host, opened.set, options.path, options);
  } finally {
    await opened.close();
  }
}
