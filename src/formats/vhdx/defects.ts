/**
 * The defects of VHDX files: stable codes, and how they become errors and findings.
 *
 * Invariant: every error made here names the file and the byte offset of the structure that is wrong.
 */
import { VhdkitError } from '../../base/errors.js';
import { corrupt, type Finding, type Severity } from '../finding.js';

/** Code → what it means, in one line. The codes are part of the interface. */
export const VHDX_DEFECTS = {
  VHDX_SIGNATURE_MISSING: 'the file does not begin with the VHDX signature',
  VHDX_TRUNCATED: 'the file ends inside a structure that must be there',
  VHDX_HEADER_INVALID: 'no header copy has a right signature and checksum',
  VHDX_HEADER_COPY_DAMAGED: 'one header copy is damaged, the other is used',
  VHDX_HEADERS_AMBIGUOUS: 'both headers have the same sequence number but differ',
  VHDX_HEADERS_TWINS: 'both headers are the same, sequence number included',
  VHDX_HEADER_SEQUENCE_EXHAUSTED: 'the header sequence number cannot grow any more',
  VHDX_VERSION_UNSUPPORTED: 'the format version is not 1',
  VHDX_LOG_VERSION_UNSUPPORTED: 'the log version is not 0',
  VHDX_LOG_PLACEMENT_INVALID: 'the log is misplaced, misaligned, outside the file, or absurdly long',
  VHDX_LOG_NO_SEQUENCE: 'the log is marked in use but has no valid sequence of entries',
  VHDX_LOG_AMBIGUOUS: 'two valid log sequences end with the same number',
  VHDX_LOG_FILE_TRUNCATED: 'the file is shorter than when the log was written',
  VHDX_LOG_TARGET_INVALID: 'a log entry wants to change a place the log may not change',
  VHDX_LOG_TOO_COMPLEX: 'the log holds more changes than any real writer leaves',
  VHDX_LOG_DIRTY: 'the log holds changes that were not yet written to their places',
  VHDX_REGION_TABLE_INVALID: 'no region table copy is valid',
  VHDX_REGION_TABLE_COPY_DAMAGED: 'one region table copy is damaged, the other is used',
  VHDX_REGION_TABLES_DIFFER: 'both region tables are valid but differ',
  VHDX_REGION_INVALID: 'a region is misaligned, empty, too long or outside the file',
  VHDX_REGION_OVERLAP: 'two regions, or a region and the log, overlap',
  VHDX_REGION_DUPLICATE: 'a region is listed twice',
  VHDX_REGION_MISSING: 'the BAT or metadata region is not listed',
  VHDX_REGION_UNKNOWN_REQUIRED: 'a region that must be understood is unknown',
  VHDX_METADATA_TABLE_INVALID: 'the metadata table is damaged',
  VHDX_METADATA_ITEM_INVALID: 'a metadata item is outside its region, overlaps, or has a wrong length',
  VHDX_METADATA_ITEM_DUPLICATE: 'a metadata item is listed twice',
  VHDX_METADATA_ITEM_MISSING: 'a metadata item that must be there is missing',
  VHDX_METADATA_UNKNOWN_REQUIRED: 'a metadata item that must be understood is unknown',
  VHDX_METADATA_RESERVED_BITS: 'reserved bits of the metadata are set',
  VHDX_INCOMPLETE_FILE: 'the file carries the mark of an unfinished creation',
  VHDX_DISK_ID_MISSING: 'the virtual disk has no id',
  VHDX_BLOCK_SIZE_INVALID: 'the block size is not a power of two between 1 and 256 MiB',
  VHDX_SECTOR_SIZE_INVALID: 'a sector size is neither 512 nor 4096',
  VHDX_DISK_SIZE_INVALID: 'the virtual size is 0, above 64 TiB, or no multiple of the sector size',
  VHDX_PARENT_LOCATOR_INVALID: 'the parent locator is damaged',
  VHDX_PARENT_LOCATOR_UNEXPECTED: 'a parent locator in an image without a parent',
  VHDX_PARENT_LOCATOR_TYPE_UNKNOWN: 'the parent locator is of an unknown type',
  VHDX_BAT_TOO_SMALL: 'the block allocation table is too small for the disk',
  VHDX_BAT_ENTRY_OUTSIDE_FILE: 'a block lies outside the file',
  VHDX_BAT_ENTRY_IN_METADATA: 'a block lies in the header section, the log or a region',
  VHDX_BAT_ENTRY_OVERLAP: 'a block shares space with another block',
  VHDX_BAT_STATE_INVALID: 'a block has a state that does not exist or is not allowed here',
  VHDX_BAT_STATE_LEGACY: 'a block has the unmapped state of a draft of the format',
  VHDX_BAT_RESERVED_BITS: 'reserved bits of a block entry are set',
  VHDX_BAT_OFFSET_UNEXPECTED: 'a block without payload has an offset',
  VHDX_BAT_SPARE_ENTRY_USED: 'a table entry that stands for no block is not zero',
  VHDX_BLOCK_CUT_SHORT: 'the file ends inside its last block; the missing part reads as zeros',
  VHDX_BITMAP_MISSING: 'a partially present block has no sector bitmap',
  VHDX_BITMAP_UNEXPECTED: 'a sector bitmap entry in an image without a parent is not zero',
  VHDX_FIXED_NOT_ALLOCATED: 'blocks of a fixed image are not allocated',
  VHDX_UNUSED_SPACE: 'space in the file that nothing uses',
  VHDX_FILE_TOO_LONG: 'the file is longer than can be examined for overlaps',
} as const;

export type VhdxDefect = keyof typeof VHDX_DEFECTS;

/** IMAGE_CORRUPT for a defect at a byte offset of the file. */
export function vhdxCorrupt(
  defect: VhdxDefect,
  message: string,
  path: string,
  offset: number,
  hint?: string,
): VhdkitError {
  return corrupt(defect, message, hint === undefined ? { path, offset } : { path, offset, hint });
}

/** UNSUPPORTED for a feature found at a byte offset of the file. */
export function vhdxUnsupported(
  defect: VhdxDefect,
  message: string,
  path: string,
  offset: number,
  hint: string,
): VhdkitError {
  return new VhdkitError('UNSUPPORTED', `${path}: ${message} at offset ${offset}`, {
    operation: 'open image',
    context: { path, offset, defect },
    hint,
  });
}

/** What `check --repair all` puts right; see repair.ts. */
const REPAIRABLE: ReadonlySet<string> = new Set<VhdxDefect>([
  'VHDX_HEADER_COPY_DAMAGED',
  'VHDX_HEADERS_TWINS',
  'VHDX_LOG_PLACEMENT_INVALID',
  'VHDX_LOG_DIRTY',
  'VHDX_REGION_TABLE_COPY_DAMAGED',
  'VHDX_REGION_TABLES_DIFFER',
  'VHDX_METADATA_RESERVED_BITS',
  'VHDX_BAT_ENTRY_OUTSIDE_FILE',
  'VHDX_BAT_ENTRY_IN_METADATA',
  'VHDX_BAT_ENTRY_OVERLAP',
  'VHDX_BAT_STATE_LEGACY',
  'VHDX_BAT_RESERVED_BITS',
  'VHDX_BAT_OFFSET_UNEXPECTED',
  'VHDX_BAT_SPARE_ENTRY_USED',
  'VHDX_BLOCK_CUT_SHORT',
  'VHDX_BITMAP_UNEXPECTED',
]);

/** A finding with a code of this format. */
export function vhdxFinding(
  code: VhdxDefect,
  severity: Severity,
  message: string,
  offset: number,
  repairable = severity === 'leak' || REPAIRABLE.has(code),
): Finding {
  return { code, severity, message, offset, repairable };
}
