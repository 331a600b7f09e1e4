/**
 * What rewriting of either kind of partition table for another sector size has in common.
 *
 * Invariant: a partition keeps its place on the disk to the byte. Where the new unit can't express that
 * place, the table is refused with the name of the partition; nothing is rounded.
 */
import { VhdkitError } from '../base/errors.js';
import type { TableSectorSize } from './partition-table.js';

/** Bytes to be put over those of the disk. Later edits win over earlier ones. */
export interface Edit {
  offset: number;
  bytes: Uint8Array;
}

/** A partition in bytes, with the words that name it. */
export interface Span {
  label: string;
  offset: number;
  length: number;
}

/** A table in new units. */
export interface Resectored {
  edits: Edit[];
  partitions: Span[];
}

export interface SectorChange {
  from: TableSectorSize;
  to: TableSectorSize;
  /** Bytes of the disk as it is going to be: a multiple of `to`. */
  size: number;
}

/** @throws UNSUPPORTED always */
export function refuseResector(message: string, { from, to }: SectorChange, hint: string): never {
  throw new VhdkitError(
    'UNSUPPORTED',
    `The partition table can't be rewritten from ${from}-byte to ${to}-byte sectors: ${message}`,
    { operation: 'rewrite partition table', context: { sectorSize: from, wanted: to }, hint },
  );
}

/** A number of sectors in the new unit. @throws UNSUPPORTED when it is not whole, naming what does not fit */
export function inNewSectors(sectors: number, change: SectorChange, what: string): number {
  const { from, to } = change;
  const bytes = sectors * from;
  if (bytes % to === 0) return bytes / to;
  return refuseResector(
    `${what} byte ${bytes}, which is not a multiple of ${to}`,
    change,
    'Move or resize that partition so that it begins and ends at multiples of 4096 bytes, or keep the sector size.',
  );
}
