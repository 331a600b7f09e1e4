/**
 * The fields of a footer that depend on the size of the disk.
 */
import { FOOTER_FIELD } from './footer.js';
import { geometryOf, geometrySize } from './geometry.js';

/** Creators whose disks Virtual PC and QEMU take to be as large as the geometry says. */
export const CHS_CREATORS: ReadonlySet<string> = new Set(['vpc ', 'qemu']);

/** Makes the footer one of Windows, whose disks have the size that is stored. */
export function writeWindowsCreator(view: DataView, bytes: Uint8Array): void {
  bytes.set(Buffer.from('win ', 'latin1'), FOOTER_FIELD.creator);
  view.setUint32(FOOTER_FIELD.creator + 4, 0x000a_0000);
}

/** The creator application, four characters. */
export function creatorOf(footer: Uint8Array): string {
  return Buffer.from(footer.subarray(FOOTER_FIELD.creator, FOOTER_FIELD.creator + 4)).toString('latin1');
}

/**
 * Writes size and geometry. For `FooterPair.change`. The original size follows the current one: to the
 * specification it is information only, but libvhdi takes it for the size of the disk, and vhd-lib refuses
 * disks that are smaller than it.
 */
export function writeSize(virtualSize: number): (view: DataView, bytes: Uint8Array) => void {
  const geometry = geometryOf(virtualSize);
  return (view, bytes) => {
    view.setBigUint64(FOOTER_FIELD.originalSize, BigInt(virtualSize));
    view.setBigUint64(FOOTER_FIELD.currentSize, BigInt(virtualSize));
    view.setUint16(FOOTER_FIELD.geometry, geometry.cylinders);
    view.setUint8(FOOTER_FIELD.geometry + 2, geometry.heads);
    view.setUint8(FOOTER_FIELD.geometry + 3, geometry.sectorsPerTrack);
    const misread = CHS_CREATORS.has(creatorOf(bytes)) && geometrySize(geometry) < virtualSize;
    if (misread) writeWindowsCreator(view, bytes);
  };
}
