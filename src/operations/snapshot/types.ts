/**
 * What the `snapshot` commands answer. Sizes in bytes, times in milliseconds since 1970 UTC.
 */
import type { ImageState } from '../../layers/snapshots.js';

export interface SnapshotFacts {
  name: string;
  id: string;
  created: number;
  /** `lost`: it can't be read as things stand, but its device, or the newer one that it needs, may be put back. */
  state: 'intact' | 'lost' | 'broken' | 'deleting';
  /** Why it is broken or lost: `copy-failed`, `image-changed`, `device-lost`, `damaged` (its device, or a volume). */
  reason: string | null;
  /** Kind of its write-once device, and where that is. */
  kind: string;
  device: string;
  /** Storage that the device takes; null where that can't be found out. */
  allocatedBytes: number | null;
}

/** What looks at an image besides its snapshots tells of them. */
export interface SnapshotSummary {
  snapshots: number;
  /** Of these, how many are of no use (any more). */
  broken: number;
  /** Name of the snapshot that the image is half-way back to. */
  restoring?: string;
}

export interface SnapshotListResult {
  path: string;
  folder: string;
  virtualSize: number;
  chunkSize: number | null;
  /** What became of the image since its snapshots were left. */
  image: ImageState | 'in-use';
  /** Name of the snapshot that the image is being put back to. */
  restoring: string | null;
  /** Oldest first. */
  snapshots: SnapshotFacts[];
  /** The snapshot that can be written to as well; null: there is none. */
  volume: SnapshotFacts | null;
}

export interface SnapshotCreateResult {
  path: string;
  folder: string;
  chunkSize: number;
  snapshot: SnapshotFacts;
  /** Older snapshots that are of no use any more, because the image was changed by something else. */
  lost: string[];
  dryRun: boolean;
}

export interface SnapshotRestoreResult {
  path: string;
  snapshot: string;
  /** The snapshot that was made of what was there before; null without. */
  kept: string | null;
  /** Bytes put back, and how. */
  restored: number;
  bytes: { shared: number; kernelCopied: number; buffered: number; zeroed: number };
  elapsedMs: number;
  dryRun: boolean;
}

export interface SnapshotDeleteResult {
  path: string;
  snapshots: string[];
  /** Bytes moved to older snapshots. */
  moved: number;
  elapsedMs: number;
  dryRun: boolean;
}
