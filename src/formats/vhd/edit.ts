/**
 * Opens an existing VHD for writing.
 *
 * Invariants: nothing is written before the first change. What can be read but not safely changed is refused:
 * blocks over each other or over structures, content that the file's end cut off, a wrong checksum, a disk of
 * a machine that was only saved. A footer that is there in one copy only is restored with the first change.
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { EditableImage, WriteAccess } from '../editable-image.js';
import { EditableFixedVhd } from './editable-fixed.js';
import { EditableSparseVhd } from './editable-sparse.js';
import { readFooter, readSparse } from './structures.js';

/** @throws IMAGE_CORRUPT, UNSUPPORTED, READ_ONLY, IO_FAILED; the file stays open on failure */
export async function editVhd(file: RandomAccessFile, _access: WriteAccess): Promise<EditableImage> {
  const structures = await readFooter(file, {});
  if (structures.type === 'fixed') return EditableFixedVhd.of(structures);
  return EditableSparseVhd.of(await readSparse(structures));
}
