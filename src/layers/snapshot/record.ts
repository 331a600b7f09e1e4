/**
 * The record of an image's snapshots: `manifest.json` of the folder beside it.
 *
 * Text form: one JSON object `{format, version, checksum, content}`; the checksum is the CRC-32C of the content
 * as this codec writes it. Times are milliseconds since 1970 UTC, sizes bytes, file times nanoseconds as text.
 *
 * Invariant: what is decoded is complete and within bounds; everything else is SNAPSHOT_RECORD_INVALID. Not here:
 * where it lies and when it is written (store.ts).
 */
import { isPowerOfTwo } from '../../base/bytes.js';
import { crc32c } from '../../base/crc32c.js';
import { VhdkitError } from '../../base/errors.js';
import { type FailurePolicy, isFailurePolicy } from '../failure-policy.js';
import { type ImageStamp, isImageStamp } from '../image-stamp.js';
import type { LayerState } from './catalogue.js';

const FORMAT = 'vhdkit-snapshots';
const VERSION = 1;
/** Longer files are not read. */
export const MAX_RECORD_BYTES = 1024 * 1024;
export const MAX_SNAPSHOTS = 250;
const MAX_LEFTOVERS = 1000;
const MAX_TEXT = 4096;

/**
 * Why a snapshot is broken: a chunk could not be kept; the image was changed while nobody kept anything; its device, or
 * one of a newer snapshot that it reads through, was given up.
 */
export type BreakReason = 'copy-failed' | 'image-changed' | 'device-lost';

export interface SnapshotEntry {
  id: string;
  name: string;
  created: number;
  /** The write-once device's kind. */
  kind: string;
  /** Its path: absolute, or a name within the folder. */
  device: string;
  state: LayerState;
  policy: FailurePolicy;
  reason?: BreakReason;
}

/** Who has the image open for writing, or had when it died. */
export interface OpenMark {
  pid: number;
  host: string;
  /** Tells starts of the system apart; empty where nothing does. */
  boot: string;
  since: number;
}

export interface SnapshotRecord {
  /** Ties devices to this image. */
  imageId: string;
  /** Its path when the first snapshot was made, or when it was last found elsewhere. */
  image?: string;
  imageSize: number;
  chunkSize: number;
  /** Oldest first. */
  snapshots: SnapshotEntry[];
  /** How the image was left; absent while it is open, and for block devices. */
  stamp?: ImageStamp;
  /** Present from before the first change until it was closed properly. */
  open?: OpenMark;
  /** Id of the snapshot that the image is being put back to. */
  restoring?: string;
  /** Paths, as in entries, of devices that are to be removed. */
  leftovers: string[];
}

export function invalidRecord(path: string, reason: string, message: string): VhdkitError {
  return new VhdkitError('SNAPSHOT_RECORD_INVALID', `${path} ${message}`, {
    operation: 'read snapshot record',
    context: { path, reason },
    hint: 'Put the folder back from a backup, or remove it to give the snapshots up: the image itself is not affected.',
  });
}

/** Content in one fixed order, so that its checksum can be computed again. */
function ordered(record: SnapshotRecord): object {
  const { imageId, image, imageSize, chunkSize, snapshots, stamp, open, restoring, leftovers } = record;
  return {
    imageId,
    image,
    imageSize,
    chunkSize,
    snapshots: snapshots.map(({ id, name, created, kind, device, state, policy, reason }) => ({
      id,
      name,
      created,
      kind,
      device,
      state,
      policy,
      reason,
    })),
    stamp: stamp && { size: stamp.size, mtime: stamp.mtime },
    open: open && { pid: open.pid, host: open.host, boot: open.boot, since: open.since },
    restoring,
    leftovers,
  };
}

function checksumOf(content: object): string {
  return crc32c(Buffer.from(JSON.stringify(content)))
    .toString(16)
    .padStart(8, '0');
}

export function encodeRecord(record: SnapshotRecord): Uint8Array {
  const content = ordered(record);
  const document = { format: FORMAT, version: VERSION, checksum: checksumOf(content), content };
  return Buffer.from(`${JSON.stringify(document, undefined, 2)}\n`);
}

type Fields = Record<string, unknown>;

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= MAX_TEXT;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

const STATES: readonly unknown[] = ['intact', 'broken', 'deleting'];
const REASONS: readonly unknown[] = [undefined, 'copy-failed', 'image-changed', 'device-lost'];

function isEntry(value: unknown): value is SnapshotEntry & Fields {
  if (!isFields(value)) return false;
  const { id, name, created, kind, device, state, policy, reason } = value;
  return (
    [id, name, kind, device].every(isText) &&
    isCount(created) &&
    STATES.includes(state) &&
    isFailurePolicy(policy) &&
    REASONS.includes(reason)
  );
}

function isOpenMark(value: unknown): value is OpenMark & Fields {
  if (!isFields(value)) return false;
  return isCount(value.pid) && isText(value.host) && typeof value.boot === 'string' && isCount(value.since);
}

function isRecord(content: Fields): content is SnapshotRecord & Fields {
  const { imageId, image, imageSize, chunkSize, snapshots, stamp, open, restoring, leftovers } = content;
  if (image !== undefined && !isText(image)) return false;
  if (!isText(imageId) || !isCount(imageSize) || !isCount(chunkSize) || !isPowerOfTwo(chunkSize))
    return false;
  if (!Array.isArray(snapshots) || snapshots.length > MAX_SNAPSHOTS || !snapshots.every(isEntry))
    return false;
  if (!Array.isArray(leftovers) || leftovers.length > MAX_LEFTOVERS || !leftovers.every(isText)) return false;
  if (stamp !== undefined && !isImageStamp(stamp)) return false;
  if (open !== undefined && !isOpenMark(open)) return false;
  return restoring === undefined || snapshots.some(({ id }) => id === restoring);
}

/** @throws SNAPSHOT_RECORD_INVALID; `context.reason`: `damaged`, `newer` */
export function decodeRecord(bytes: Uint8Array, path: string): SnapshotRecord {
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    throw invalidRecord(path, 'damaged', 'is damaged: it is not JSON');
  }
  if (!isFields(document) || document.format !== FORMAT)
    throw invalidRecord(path, 'damaged', 'is damaged: it is no record of snapshots');
  if (document.version !== VERSION)
    throw invalidRecord(
      path,
      'newer',
      `has version ${String(document.version)}, which this vhdkit does not know`,
    );
  const { content, checksum } = document;
  if (!isFields(content) || !isRecord(content))
    throw invalidRecord(path, 'damaged', 'is damaged: parts of it are missing or make no sense');
  if (checksumOf(ordered(content)) !== checksum)
    throw invalidRecord(path, 'damaged', 'is damaged: its checksum is wrong');
  return content;
}
