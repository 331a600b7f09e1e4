/**
 * The fields of a footer that depend on the size of the disk.
 */
import { FOOTER_FIELD } from './footer.js';
import { geometryOf } from './geometry.js';

/** Writes current size and geometry; the original size stays. For `FooterPair.change`. */
export function writeSize(virtualSize: number): (view: DataView) => void {
  const { cylinders, heads, sectorsPerTrack } = geometryOf(virtualSize);
  return (view) => {
    view.setBigUint64(FOOTER_FIELD.currentSize, BigInt(virtualSize));
    view.setUint16(FOOTER_FIELD.geometry, cylinders);
    view.setUint8(FOOTER_FIELD.geometry + 2, heads);
    view.setUint8(FOOTER_FIELD.geometry + 3, sectorsPerTrack);
  };
}
