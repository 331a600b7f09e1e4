/**
 * Opens an existing VHD for writing.
 *
 * Invariant: nothing is written before the first change.
 */
import { VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { EditableImage, WriteAccess } from '../editable-image.js';

export async function editVhd(file: RandomAccessFile, _access: WriteAccess): Promise<EditableImage> {
  throw new VhdkitError('UNSUPPORTED', `${file.path}: changing an existing VHD is not supported yet`);
}
