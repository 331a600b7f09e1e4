/**
 * Putting footers and dynamic header of a VHD right.
 *
 * Invariants: one footer is valid on stable storage at every instant (a fixed disk has one only: it is written
 * as one sector). The header's only copy is changed by one write of its first sector. Reserved bytes stay as
 * they are. Values are changed only where the right one follows from others.
 */

import { guidToBytes } from '../../base/guid.js';
import { randomGuid } from '../../base/random.js';
import { isZero } from '../../base/zeros.js';
import type { RepairAccess } from '../repair.js';
import { sealChecksum } from './checksum.js';
import { HEADER_BYTES, HEADER_FIELD, headerChecksumOk, SECTOR_BYTES } from './dynamic-header.js';
import { DISK_TYPE, FOOTER_BYTES, FOOTER_FIELD, footerChecksumOk, NO_OFFSET } from './footer.js';
import { CHS_CREATORS, creatorOf, writeWindowsCreator } from './footer-size.js';
import { geometryOf, geometrySize, packedGeometry } from './geometry.js';
import type { VhdStructures } from './structures.js';

const DEFAULT_FEATURES = 2;
const VERSION = 0x0001_0000;

/** The footer as it should be. */
export async function rightFooter(structures: VhdStructures, access: RepairAccess): Promise<Uint8Array> {
  const { file, copy, footer, virtualSize, type } = structures;
  const bytes = new Uint8Array(FOOTER_BYTES);
  await file.read(bytes, copy.offset);
  const before = Uint8Array.from(bytes);
  const view = new DataView(bytes.buffer);
  if ((footer.features & 2) === 0 || footer.features > 3)
    view.setUint32(FOOTER_FIELD.features, (footer.features & 1) | DEFAULT_FEATURES);
  view.setUint32(FOOTER_FIELD.version, VERSION);
  if (type === 'fixed') view.setBigUint64(FOOTER_FIELD.dataOffset, NO_OFFSET);
  if (isZero(footer.uniqueId)) bytes.set(guidToBytes(randomGuid(access.random)), FOOTER_FIELD.uniqueId);
  mendGeometry(view, bytes, structures, virtualSize);
  const isSound = Buffer.compare(bytes, before) === 0 && footerChecksumOk(before);
  if (!isSound) sealChecksum(bytes, FOOTER_FIELD.checksum);
  return bytes;
}

/** Only a geometry that misleads is changed: many programs have algorithms of their own. */
function mendGeometry(view: DataView, bytes: Uint8Array, structures: VhdStructures, size: number): void {
  const { geometry } = structures.footer;
  const right = geometryOf(size);
  const misleads = CHS_CREATORS.has(creatorOf(bytes)) && geometrySize(geometry) < size;
  const isZeroGeometry = geometrySize(geometry) === 0 && geometrySize(right) > 0;
  if (!misleads && !isZeroGeometry && packedGeometry(geometry) <= packedGeometry(right)) return;
  view.setUint16(FOOTER_FIELD.geometry, right.cylinders);
  view.setUint8(FOOTER_FIELD.geometry + 2, right.heads);
  view.setUint8(FOOTER_FIELD.geometry + 3, right.sectorsPerTrack);
  // No geometry has exactly this size: the creator decides whether readers go by it.
  if (CHS_CREATORS.has(creatorOf(bytes)) && geometrySize(right) < size) writeWindowsCreator(view, bytes);
}

/** Why the footer is not to be believed; undefined when it is. */
export async function footerDoubt(structures: VhdStructures): Promise<string | undefined> {
  const { file, copy, footer } = structures;
  if (copy.checksumOk || footer.diskType === DISK_TYPE.fixed) return undefined;
  const [chosen, front] = [new Uint8Array(FOOTER_BYTES), new Uint8Array(FOOTER_BYTES)];
  await file.read(chosen, copy.offset);
  await file.read(front, 0);
  if (copy.where !== 'start' && Buffer.compare(chosen, front) === 0) return undefined;
  return 'both footers are damaged; there is no telling which of their values are right';
}

async function differs(structures: VhdStructures, bytes: Uint8Array, offset: number): Promise<boolean> {
  const stored = new Uint8Array(bytes.length);
  const count = await structures.file.read(stored, offset);
  return count < bytes.length || Buffer.compare(stored, bytes) !== 0;
}

async function put(structures: VhdStructures, bytes: Uint8Array, offset: number): Promise<void> {
  if (!(await differs(structures, bytes, offset))) return;
  await structures.file.write(bytes, offset);
  await structures.file.flush();
}

/** Writes the one footer of a fixed disk. */
export async function putFixedFooter(structures: VhdStructures, bytes: Uint8Array): Promise<void> {
  await put(structures, bytes, structures.copy.offset);
}

/** Where the footer at the end belongs when everything else ends at `end`. */
export function footerPlace(structures: VhdStructures, end: number): number {
  const { file, copy, limit } = structures;
  const above = Math.ceil(end / SECTOR_BYTES) * SECTOR_BYTES;
  if (copy.where !== 'start') return Math.max(limit, above);
  const size = file.size();
  const last = size % SECTOR_BYTES === 0 ? size - FOOTER_BYTES : size - (size % SECTOR_BYTES);
  return Math.max(last, above);
}

/** Writes both footers of a dynamic or differencing disk. @param place where the last one belongs */
export async function putFooters(structures: VhdStructures, bytes: Uint8Array, place: number): Promise<void> {
  const { file, copy, limit } = structures;
  if (copy.where === 'start') {
    await put(structures, bytes, place);
    await put(structures, bytes, 0);
    return;
  }
  await put(structures, bytes, 0);
  if (place > limit) {
    // From here on the old place belongs to a block that the end of the file had cut off there.
    await file.zero(limit, Math.min(FOOTER_BYTES, file.size() - limit));
    await file.flush();
  }
  await put(structures, bytes, place);
}

/** Puts checksum and unused data offset of the dynamic header right. */
export async function mendHeader(structures: VhdStructures, offset: number): Promise<void> {
  const { file } = structures;
  const bytes = new Uint8Array(HEADER_BYTES);
  await file.read(bytes, offset);
  const view = new DataView(bytes.buffer);
  const isSound = view.getBigUint64(HEADER_FIELD.dataOffset) === NO_OFFSET && headerChecksumOk(bytes);
  if (isSound) return;
  view.setBigUint64(HEADER_FIELD.dataOffset, NO_OFFSET);
  sealChecksum(bytes, HEADER_FIELD.checksum);
  await file.write(bytes.subarray(0, SECTOR_BYTES), offset);
  await file.flush();
}
