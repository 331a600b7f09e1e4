/**
 * Gives a differencing VHD another parent.
 */
import { VhdkitError } from '../../base/errors.js';
import type { ParentLink } from '../disk-image.js';
import type { NewParentLink } from '../editable-image.js';
import type { BlockWriter } from './block-writer.js';
import type { SparseState } from './sparse-state.js';

export async function setParentLink(
  state: SparseState,
  _writer: BlockWriter,
  _link: NewParentLink,
): Promise<ParentLink> {
  throw new VhdkitError('UNSUPPORTED', `${state.file.path}: not supported yet`);
}
