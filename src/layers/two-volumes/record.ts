/**
 * The record of an image's preserved volume: `manifest.json` of the folder beside it.
 *
 * Text form: one JSON object. Sizes bytes, times milliseconds since 1970 UTC, file times nanoseconds as text.
 *
 * Invariant: what is decoded is complete and within bounds. Nothing in it names a file: the folder has fixed names.
 */
import { VhdkitError } from '../../base/errors.js';
import { type FailurePolicy, isFailurePolicy } from '../failure-policy.js';
import { type ImageStamp, isImageStamp } from '../image-stamp.js';

const FORMAT = 'vhdkit-volumes';
const VERSION = 1;
/** Longer files are not read. */
export const MAX_RECORD_BYTES = 64 * 1024;
const MAX_NAME = 255;

export interface VolumeRecord {
  name: string;
  created: number;
  onFailure: FailurePolicy;
  /**
   * The image as it was left. Absent while it is served, and after its server was killed: then nobody can tell, and
   * it is taken as it is.
   */
  stamp?: ImageStamp;
}

export function damagedRecord(path: string, reason: 'damaged' | 'newer'): VhdkitError {
  const what = reason === 'newer' ? 'is of a version that this vhdkit does not know' : 'is damaged';
  return new VhdkitError('SNAPSHOT_RECORD_INVALID', `${path} ${what}`, {
    operation: 'read volume record',
    context: { path, reason },
    hint: 'Remove its folder to give the preserved volume up: the image itself is not affected.',
  });
}

export function encodeRecord({ name, created, onFailure, stamp }: VolumeRecord): Uint8Array {
  const document = { format: FORMAT, version: VERSION, name, created, onFailure, stamp };
  return Buffer.from(`${JSON.stringify(document, undefined, 2)}\n`);
}

/** @throws SNAPSHOT_RECORD_INVALID */
export function decodeRecord(bytes: Uint8Array, path: string): VolumeRecord {
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    throw damagedRecord(path, 'damaged');
  }
  const { format, version, name, created, onFailure, stamp } = (document ?? {}) as Record<string, unknown>;
  if (format !== FORMAT) throw damagedRecord(path, 'damaged');
  if (version !== VERSION) throw damagedRecord(path, 'newer');
  const sound =
    typeof name === 'string' &&
    name !== '' &&
    name.length <= MAX_NAME &&
    Number.isSafeInteger(created) &&
    isFailurePolicy(onFailure) &&
    (stamp === undefined || isImageStamp(stamp));
  if (!sound) throw damagedRecord(path, 'damaged');
  const record = { name, created: created as number, onFailure } as const;
  return stamp ? { ...record, stamp } : record;
}
