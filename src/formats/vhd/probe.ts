/**
 * Recognises a VHD by the first and last bytes of a file.
 *
 * Invariant: pure, and never says no to something that `open` has a better message for (a poisoned image,
 * a damaged footer). A cookie at the beginning counts only with type dynamic or differencing.
 */
import type { ImageType } from '../disk-image.js';
import { HEADER_BYTES, headerChecksumOk, isHeaderCookie } from './dynamic-header.js';
import { DISK_TYPE, FOOTER_BYTES } from './footer.js';
import { type FooterWhere, findFooters, preferredFooter } from './footer-search.js';

export interface VhdProbe {
  /** Undefined when the footer is too damaged, or of a kind that is refused. */
  type: ImageType | undefined;
  where: FooterWhere;
  checksumOk: boolean;
}

const TYPES: Readonly<Record<number, ImageType>> = {
  [DISK_TYPE.fixed]: 'fixed',
  [DISK_TYPE.dynamic]: 'dynamic',
  [DISK_TYPE.differencing]: 'differencing',
};

/** The type of a footer's type field; undefined for reserved and unknown values. */
export function imageTypeOf(diskType: number): ImageType | undefined {
  return TYPES[diskType];
}

/**
 * @param head the first bytes of the file, 2 KiB or more where there are so many
 * @param tail the last bytes of the file, 512 or more
 * @param fileSize in bytes
 */
export function probeVhd(head: Uint8Array, tail: Uint8Array, fileSize: number): VhdProbe | undefined {
  const copies = findFooters(head, tail, fileSize);
  const { end, start } = copies;
  const copy = end?.poisoned ? end : (preferredFooter(copies) ?? end ?? start);
  if (copy) {
    const type = copy.problem || copy.poisoned ? undefined : imageTypeOf(copy.footer.diskType);
    return { type, where: copy.where, checksumOk: copy.checksumOk };
  }
  // Both footers lost: only a header in its usual place, with a right checksum, still tells.
  const header = head.subarray(FOOTER_BYTES, FOOTER_BYTES + HEADER_BYTES);
  if (header.length === HEADER_BYTES && isHeaderCookie(header) && headerChecksumOk(header)) {
    return { type: undefined, where: 'start', checksumOk: false };
  }
  return undefined;
}
