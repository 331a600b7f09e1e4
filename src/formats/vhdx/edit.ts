/**
 * Opens an existing VHDX for writing.
 *
 * Invariant: nothing is written before the first change, and metadata only through the log.
 */
import { VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { EditableImage, WriteAccess } from '../editable-image.js';

export async function editVhdx(file: RandomAccessFile, _access: WriteAccess): Promise<EditableImage> {
  throw new VhdkitError('UNSUPPORTED', `${file.path}: changing an existing VHDX is not supported yet`);
}
