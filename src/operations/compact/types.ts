/**
 * What `compact` is asked and what it answers. Types only.
 */
import type { FormatId, ImageType } from '../../formats/disk-image.js';
import type { VolumeReport } from '../../guestfs/free-space.js';
import type { BytesMoved } from '../../offload/transfer-types.js';
import type { ProgressSink } from '../host.js';
import type { Fragmentation } from '../layout-facts.js';
import type { MovingOptions } from '../session.js';

export interface CompactOptions extends MovingOptions {
  path: string;
  format?: FormatId;
  /** Write a compact copy to this new file, and leave the image alone. */
  to?: string;
  /** Give back blocks that hold only zeros, or what the parent shows. Default: true unless `freeSpace`. */
  zeroBlocks?: boolean;
  /** Give back blocks that the guest's file systems hold free. */
  freeSpace?: boolean;
  /** Also when other images depend on this one. */
  force?: boolean;
  dryRun?: boolean;
  progress?: ProgressSink;
  /** Called when the last stage begins; the answer is told how far it is. */
  onMove?: () => Promise<ProgressSink>;
}

/** Sizes in bytes. */
export interface StorageFacts {
  fileSize: number;
  /** Storage in use on the host. */
  allocatedBytes: number;
  allocatedBlocks: number;
  fragmentation: Fragmentation;
}

export interface CompactResult {
  path: string;
  format: FormatId;
  type: ImageType;
  virtualSize: number;
  /** The new file, with `to`. */
  target?: string;
  before: StorageFacts;
  /** In a dry run what is expected. */
  after: StorageFacts;
  reclaimed: {
    /** Blocks of zeros, or of what the parent shows. */
    zeros: number;
    /** Blocks that file systems hold free. */
    freeSpace: number;
    /** Free space in blocks that stay: their file has holes there now. Counts for storage, not for the length. */
    insideBlocks: number;
    /** What was unused in the file before. */
    slack: number;
  };
  /** With `freeSpace`: what was found on the disk, and what is kept and why. */
  volumes?: readonly VolumeReport[];
  /** Units moved to a lower place, and their bytes. */
  moved: { units: number; bytes: number };
  bytes: BytesMoved;
  elapsedMs: number;
  dryRun: boolean;
}
