/**
 * The repair contract: what a format puts right in the structures of its images.
 *
 * Invariants: what can be read before reads the same afterwards, except through table entries that were
 * dropped, which are listed. At every instant, and after a crash at any, the image is as readable as it was,
 * and the same repair can be run again. What is not understood is left as it is.
 *
 * Not here: giving space back (that is moving blocks), saving old bytes (io/backup-file.ts sees every write).
 */
import type { Clock } from '../base/clock.js';
import type { RandomSource } from '../base/random.js';

export interface RepairAccess {
  clock: Clock;
  random: RandomSource;
  /** Nothing is written; the answer is what would have been done. */
  dryRun?: boolean;
  signal?: AbortSignal;
}

/** A table entry that could not be true and was taken out. Bytes. */
export interface DroppedEntry {
  block: number;
  /** Where on the disk; it reads as zeros, or as the parent has it, from now on. */
  diskOffset: number;
  length: number;
  /** Where the table entry is in the file. */
  entryOffset: number;
  /** Where it said the block was. */
  fileOffset: number;
  /** The entry as it was stored, hexadecimal. */
  entry: string;
  /** Code of the defect. */
  defect: string;
  reason: string;
}

/** Dropped entries that are listed one by one; the others are counted. */
export const MAX_LISTED_DROPS = 65_536;

export interface StructureRepair {
  dropped: DroppedEntry[];
  /** All of them, listed or not. */
  droppedCount: number;
  /** Why structures were left alone although something is wrong with them. */
  refused?: string;
}
