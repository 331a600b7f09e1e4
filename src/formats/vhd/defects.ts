/**
 * Defect codes of the VHD format, and how they become errors and findings.
 *
 * Invariant: a code names one defect and never changes its meaning; scripts compare it. Which of them are
 * fatal depends on what is asked of the image: `open` refuses what leaves nothing to go on with, `check`
 * reports the rest.
 *
 * Deliberately not here: the rules themselves. They stand beside the structure they belong to.
 */
import { type ErrorCode, VhdkitError } from '../../base/errors.js';
import type { Finding, Severity } from '../finding.js';
import { corrupt } from '../finding.js';

export type VhdDefect =
  /** No footer at the end and no usable copy at the beginning. */
  | 'VHD_FOOTER_MISSING'
  /** The footer at the end is damaged or missing; the copy at the beginning is used. */
  | 'VHD_FOOTER_DAMAGED'
  /** The copy of the footer at the beginning is damaged or missing. */
  | 'VHD_FOOTER_COPY_DAMAGED'
  /** Both footers are valid but contradict each other. */
  | 'VHD_FOOTER_COPIES_DIFFER'
  | 'VHD_FOOTER_CHECKSUM'
  /** A footer of 511 bytes, as written before Virtual PC 2004. */
  | 'VHD_FOOTER_LEGACY'
  | 'VHD_FOOTER_VERSION'
  /** Type 0, 1, 5 or 6: reserved or deprecated. */
  | 'VHD_TYPE_UNSUPPORTED'
  | 'VHD_TYPE_INVALID'
  /** blktap's mark for an image that was disabled on purpose. */
  | 'VHD_POISONED'
  | 'VHD_SIZE_INVALID'
  | 'VHD_SIZE_NOT_SECTORS'
  /** Programs that go by the geometry see a smaller disk. */
  | 'VHD_GEOMETRY_SMALLER'
  | 'VHD_GEOMETRY_ZERO'
  | 'VHD_GEOMETRY_TOO_LARGE'
  | 'VHD_SAVED_STATE'
  | 'VHD_UNIQUE_ID_ZERO'
  | 'VHD_RESERVED_FIELD'
  /** A fixed disk whose payload is shorter than the footer says. */
  | 'VHD_FIXED_TRUNCATED'
  | 'VHD_HEADER_OUTSIDE_FILE'
  | 'VHD_HEADER_COOKIE'
  | 'VHD_HEADER_VERSION'
  | 'VHD_HEADER_CHECKSUM'
  | 'VHD_BLOCK_SIZE_INVALID'
  | 'VHD_BAT_OFFSET_INVALID'
  | 'VHD_BAT_TOO_SMALL'
  | 'VHD_BAT_TOO_LARGE'
  | 'VHD_BAT_OUTSIDE_FILE'
  | 'VHD_BAT_OVERLAPS_METADATA'
  | 'VHD_BAT_ENTRY_OUTSIDE_FILE'
  | 'VHD_BAT_ENTRY_IN_METADATA'
  | 'VHD_BLOCKS_OVERLAP'
  /** The file ends within a block. */
  | 'VHD_BLOCK_CUT'
  /** A clear bit of a sector bitmap covers bytes that are not zero. */
  | 'VHD_BITMAP_HIDES_DATA'
  | 'VHD_UNUSED_SPACE'
  | 'VHD_LOCATOR_INVALID'
  /** A differencing disk over a raw parent (blktap), shown by a parent id of zeros. */
  | 'VHD_PARENT_RAW';

/** Where and in which file; offsets in bytes. */
export interface DefectPlace {
  path: string;
  offset: number;
  hint?: string;
}

/** The error for a known structure in a variant that is not supported. */
function unsupported(defect: VhdDefect, message: string, place: DefectPlace): VhdkitError {
  const { path, offset, hint } = place;
  return new VhdkitError('UNSUPPORTED', `${path}: ${message}`, {
    operation: 'open VHD',
    context: { path, offset, defect },
    ...(hint === undefined ? {} : { hint }),
  });
}

/** IMAGE_CORRUPT or UNSUPPORTED with the defect and its offset in the context. */
export function vhdError(
  code: Extract<ErrorCode, 'IMAGE_CORRUPT' | 'UNSUPPORTED'>,
  defect: VhdDefect,
  message: string,
  place: DefectPlace,
): VhdkitError {
  return code === 'IMAGE_CORRUPT' ? corrupt(defect, message, place) : unsupported(defect, message, place);
}

/** A finding with a VHD code. `offset` is a byte offset in the image's file. */
export function finding(
  code: VhdDefect,
  severity: Severity,
  message: string,
  offset: number,
  repairable = false,
): Finding {
  return { code, severity, message, offset, repairable };
}
