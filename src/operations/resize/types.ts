/**
 * What `resize` is told and what it answers. Types only.
 */
import type { FormatId, ImageType } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import type { ProgressSink } from '../host.js';

/** A size in bytes, or a difference to the present one. */
export type SizeChange = { to: number } | { by: number };

export interface ResizeOptions {
  path: string;
  size: SizeChange;
  format?: FormatId;
  /** Cut off partitions and data that lie behind the new end. */
  shrink?: boolean;
  /** Move the backup copy of a GPT to the new end. */
  moveGpt?: boolean;
  /** Also when other images depend on this one. */
  force?: boolean;
  /** Change nothing. */
  dryRun?: boolean;
  signal?: AbortSignal;
  /** Told how far the search for data behind the new end is. */
  progress?: ProgressSink;
}

/** Something that the new end cuts off, as a range of the disk. */
export interface Loss {
  /** `partition 2 (data)`, `the ext2/3/4 file system`, `data`. */
  what: string;
  offset: number;
  /** Bytes that are lost. */
  length: number;
}

export interface ResizeResult {
  path: string;
  format: FormatId;
  type: ImageType;
  oldSize: number;
  virtualSize: number;
  /** Bytes; in a dry run what it is now. */
  fileSize: number;
  table: 'gpt' | 'mbr' | 'none';
  /**
   * The backup of the GPT: `moved` to the end of the disk, `left` where it was, `inPlace` when it is at the
   * end anyway. Null where there is no GPT to speak of.
   */
  gptBackup: 'moved' | 'left' | 'inPlace' | null;
  /** What the new end cuts off. Empty unless that was asked for. */
  lost: Loss[];
  dryRun: boolean;
  elapsedMs: number;
  warnings: Finding[];
}
