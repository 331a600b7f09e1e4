/**
 * Cylinders, heads and sectors of a disk: what old BIOSes and some readers derive the size from.
 *
 * Invariant: the product never exceeds the disk's sectors. Reading never uses it (the current size is
 * authoritative); it is computed for new images and compared by `check`.
 */

export interface Geometry {
  cylinders: number;
  heads: number;
  sectorsPerTrack: number;
}

const SECTOR = 512;
const MAX_SECTORS = 65535 * 16 * 255;
/** From here on every track has 255 sectors. */
const LARGE_DISK = 65535 * 16 * 63;

/**
 * The geometry of a disk of `size` bytes.
 * Source: VHD specification 1.0, appendix "CHS Calculation".
 */
export function geometryOf(size: number): Geometry {
  const sectors = Math.min(Math.floor(size / SECTOR), MAX_SECTORS);
  let sectorsPerTrack = 255;
  let heads = 16;
  let tracks = Math.floor(sectors / sectorsPerTrack);
  if (sectors < LARGE_DISK) {
    sectorsPerTrack = 17;
    tracks = Math.floor(sectors / sectorsPerTrack);
    heads = Math.max(4, Math.floor((tracks + 1023) / 1024));
    if (tracks >= heads * 1024 || heads > 16) {
      sectorsPerTrack = 31;
      heads = 16;
      tracks = Math.floor(sectors / sectorsPerTrack);
    }
    if (tracks >= heads * 1024) {
      sectorsPerTrack = 63;
      heads = 16;
      tracks = Math.floor(sectors / sectorsPerTrack);
    }
  }
  return { cylinders: Math.floor(tracks / heads), heads, sectorsPerTrack };
}

/** Bytes that can be addressed through a geometry. */
export function geometrySize(geometry: Geometry): number {
  return geometry.cylinders * geometry.heads * geometry.sectorsPerTrack * SECTOR;
}

/** The three numbers as one, in the order in which other programs compare geometries. */
export function packedGeometry(geometry: Geometry): number {
  return geometry.cylinders * 0x10000 + geometry.heads * 0x100 + geometry.sectorsPerTrack;
}
