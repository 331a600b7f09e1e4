/**
 * What `convert --in-place` is told and what it answers. Types only.
 */
import type { FormatId, ImageType } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import type { BytesMoved } from '../../offload/transfer-types.js';
import type { ProgressSink } from '../host.js';

export interface InPlaceOptions {
  path: string;
  type: 'fixed' | 'dynamic';
  format?: FormatId;
  /** `dynamic`: also give back the storage of blocks that merely contain zeros (default), or do not look. */
  zeros?: 'scan' | 'holes';
  /** Change nothing. */
  dryRun?: boolean;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

/** Sizes in bytes. */
export interface FileFacts {
  fileSize: number;
  /** Storage in use on the host. */
  allocatedBytes: number;
}

export interface InPlaceResult {
  path: string;
  format: FormatId;
  /** What it was; a raw image has no types and counts as what its storage makes of it. */
  from: ImageType;
  type: 'fixed' | 'dynamic';
  virtualSize: number;
  /**
   * `sameFile`: the file was changed where it is. `sharedExtents`: a file of the other layout, whose payload
   * shares the storage of the old one, took its place.
   */
  means: 'sameFile' | 'sharedExtents';
  before: FileFacts;
  /** In a dry run the same as `before`. */
  after: FileFacts;
  /** Bytes of blocks of zeros that were given back. */
  zerosGivenBack: number;
  /** With `sharedExtents`: how the disk's bytes got into the new file. */
  bytes: BytesMoved;
  dryRun: boolean;
  elapsedMs: number;
  warnings: Finding[];
}
