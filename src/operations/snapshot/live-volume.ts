/**
 * Preserved volumes of an image that a server has. Making one needs the server, because the moment that it stands for
 * is one between requests.
 */
import type { FailurePolicy } from '../../layers/snapshots.js';
import type { VolumeFacts } from '../../layers/volumes.js';
import type { Host } from '../host.js';
import { nameOfTime } from './create.js';
import { askAbout, findServed, type ServerChoice } from './live.js';
import type { SnapshotCreateResult } from './types.js';
import { volumeFacts } from './volume.js';

export interface VolumeCreateOptions extends ServerChoice {
  /** Default: the time. */
  name?: string;
  /** Bytes, a power of two from 4 KiB to 16 MiB; default 64 KiB. */
  chunkSize?: number;
  /** What becomes of a write whose old data can't be kept; default: it fails. */
  onFailure?: FailurePolicy;
}

const KIND = 'volumes';

/** @throws NOT_FOUND, ALREADY_EXISTS (there is one), INVALID_ARGUMENT, NO_SPACE, and what asking a server throws */
export async function createVolume(host: Host, options: VolumeCreateOptions): Promise<SnapshotCreateResult> {
  const { path, name = nameOfTime(host.clock.now()), chunkSize, onFailure } = options;
  const served = await findServed(host, options, KIND);
  const body = { name, blockSize: chunkSize, onFailure };
  const call = { kind: KIND, method: 'POST', body } as const;
  const { volume } = await askAbout<{ volume: VolumeFacts }>(served, options, call);
  const snapshot = volumeFacts(served.path, volume);
  return { path, folder: snapshot.device, chunkSize: volume.blockSize, snapshot, lost: [], dryRun: false };
}

/** The name of the volume of an image that a server has; undefined: it has none. @throws NOT_FOUND (the export) */
export async function servedVolumeName(host: Host, choice: ServerChoice): Promise<string | undefined> {
  const served = await findServed(host, choice, KIND);
  const call = { kind: KIND, method: 'GET' } as const;
  const { volumes } = await askAbout<{ volumes: VolumeFacts[] }>(served, choice, call);
  return volumes[0]?.name;
}

/** Its clients are let go first. @throws NOT_FOUND, IO_FAILED, and what asking a server throws */
export async function deleteServedVolume(host: Host, choice: ServerChoice, name: string): Promise<void> {
  const served = await findServed(host, choice, KIND);
  await askAbout(served, choice, { kind: KIND, method: 'DELETE', segments: [name] });
}
