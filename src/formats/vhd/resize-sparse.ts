/**
 * Changes the size of a dynamic or differencing VHD.
 */
import { VhdkitError } from '../../base/errors.js';
import type { ResizeOptions } from '../editable-image.js';
import type { BlockWriter } from './block-writer.js';
import type { SparseState } from './sparse-state.js';

export async function resizeSparse(
  state: SparseState,
  _writer: BlockWriter,
  _virtualSize: number,
  _options: ResizeOptions,
): Promise<void> {
  throw new VhdkitError('UNSUPPORTED', `${state.file.path}: not supported yet`);
}
