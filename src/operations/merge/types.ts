/**
 * What `merge` is told and what it answers. Types only.
 */
import type { FormatId, ImageType } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import type { BytesMoved, ProviderChoice } from '../../offload/transfer-types.js';
import type { ProgressSink } from '../host.js';

export interface MergeOptions {
  /** The image to merge, whose contents the target is to have. */
  child: string;
  /** An image that the child depends on, or the name of a new one; default: the child's parent. */
  to?: string;
  /** Remove what was merged, once the target holds it durably. */
  delete?: boolean;
  /** Change images that others depend on. */
  force?: boolean;
  /** Change nothing; the result's `bytes` is a forecast. */
  dryRun?: boolean;
  provider?: ProviderChoice;
  /** Bytes per second that may be read or copied at most. */
  rate?: number;
  /** Milliseconds between flushes of the target; for tests. */
  flushInterval?: number;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

export interface MergeResult {
  child: string;
  target: string;
  /** The target is a new image, and nothing else was changed. */
  created: boolean;
  format: FormatId;
  type: ImageType;
  /** Of the target, in the end; of its file, as far as it is known beforehand in a dry run. Bytes. */
  virtualSize: number;
  fileSize: number;
  /** Paths of the images whose contents went into the target, top first. */
  merged: readonly string[];
  /** How the bytes got there; what the target had already is not counted. */
  bytes: BytesMoved;
  /** The target's disk got another size, in bytes, because the child's has it. */
  resized?: { from: number; to: number };
  /** Images that depended on a deleted one and depend on the target now. */
  relinked: readonly string[];
  /** Images between child and target that were left and do not show any more what they did. */
  stale: readonly string[];
  deleted: readonly string[];
  elapsedMs: number;
  dryRun: boolean;
  warnings: readonly Finding[];
}
