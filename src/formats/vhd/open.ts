/**
 * Opens an existing VHD for reading.
 *
 * Invariant: nothing is written, not even to repair a damaged copy of the footer.
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { DiskImage, OpenImageOptions } from '../disk-image.js';
import { FixedVhd } from './fixed-image.js';
import { SparseVhd } from './sparse-image.js';
import { readFooter, readSparse } from './structures.js';

/** @throws IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED; the file stays open on failure */
export async function openVhd(file: RandomAccessFile, options: OpenImageOptions = {}): Promise<DiskImage> {
  const structures = await readFooter(file, options);
  if (structures.type === 'fixed') return new FixedVhd(structures);
  return new SparseVhd(await readSparse(structures));
}
