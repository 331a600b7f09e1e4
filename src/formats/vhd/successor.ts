/**
 * What a VHD takes over from the one that it takes the place of.
 *
 * Invariant: the same disk with the same content in another layout keeps its id, which children look for, and
 * its dates. Layout, creator and geometry are those of a new image.
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { VhdFooter } from './footer.js';
import { readFooter } from './structures.js';

/** @throws IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED */
export async function succeed(footer: VhdFooter, replaced: RandomAccessFile | undefined): Promise<VhdFooter> {
  if (!replaced) return footer;
  const { uniqueId, timestamp, originalSize } = (await readFooter(replaced, {})).footer;
  return { ...footer, uniqueId, timestamp, originalSize };
}
