/**
 * Checks of footer values that reading does not depend on but other programs do.
 *
 * Invariant: every finding here is a note or a warning; what makes contents doubtful is found elsewhere.
 */

import { isZero } from '../../base/zeros.js';
import type { Finding } from '../finding.js';
import { finding } from './defects.js';
import { FOOTER_FIELD, NO_OFFSET } from './footer.js';
import { geometryOf, geometrySize, packedGeometry } from './geometry.js';
import type { VhdStructures } from './structures.js';

function checkGeometry({ footer, copy, virtualSize }: VhdStructures): Finding[] {
  const offset = copy.offset + FOOTER_FIELD.geometry;
  const right = geometryOf(virtualSize);
  // Disks below 34 KiB have no geometry: zero is right for them.
  if (geometrySize(footer.geometry) === 0 && geometrySize(right) > 0) {
    const message = 'the geometry is zero; QEMU before version 10 shows a disk of 0 bytes';
    return [finding('VHD_GEOMETRY_ZERO', 'note', message, offset, true)];
  }
  if (packedGeometry(footer.geometry) > packedGeometry(right)) {
    const message =
      'the geometry is larger than the one that belongs to the size; XenServer refuses such a disk';
    return [finding('VHD_GEOMETRY_TOO_LARGE', 'note', message, offset, true)];
  }
  return [];
}

/** Rules of the specification and of strict checkers. */
export function checkFooterValues(structures: VhdStructures): Finding[] {
  const { footer, copy, type } = structures;
  const findings = checkGeometry(structures);
  const note = (field: number, message: string) =>
    findings.push(finding('VHD_RESERVED_FIELD', 'note', message, copy.offset + field, true));
  if ((footer.features & 2) === 0 || footer.features > 3) {
    note(FOOTER_FIELD.features, `the features field is ${footer.features}; 2 is expected`);
  }
  if (footer.version !== 0x0001_0000) note(FOOTER_FIELD.version, 'the minor format version is not 0');
  if (type === 'fixed' && footer.dataOffset !== NO_OFFSET) {
    note(FOOTER_FIELD.dataOffset, 'the data offset of a fixed disk is not all ones');
  }
  if (isZero(footer.uniqueId)) {
    const message = 'the unique id is all zeros: no child can be made of this disk';
    const at = copy.offset + FOOTER_FIELD.uniqueId;
    findings.push(finding('VHD_UNIQUE_ID_ZERO', 'warning', message, at, true));
  }
  return findings;
}
