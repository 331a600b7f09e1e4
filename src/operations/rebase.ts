/**
 * `rebase`: another parent for a differencing image.
 *
 * Either the content is kept (rebase/keep-content.ts), or only the link is changed (rebase/relink.ts).
 */
import { VhdkitError } from '../base/errors.js';
import type { Host } from './host.js';
import { keepContent } from './rebase/keep-content.js';
import { relink } from './rebase/relink.js';
import type { RebaseOptions, RebaseResult } from './rebase/types.js';

export type { RebaseOptions, RebaseResult } from './rebase/types.js';

/**
 * @throws INVALID_ARGUMENT, UNSUPPORTED (not a differencing image, formats or sector sizes that do not go
 *   together), PARENT_MISSING, PARENT_MISMATCH, PARENT_LOOP, CHAIN_TOO_DEEP, IN_USE, SOURCE_CHANGED,
 *   NO_SPACE, CANCELLED, and what opening throws
 */
export async function rebase(host: Host, options: RebaseOptions): Promise<RebaseResult> {
  const { path, parent } = options;
  const context = { path };
  if (options.ignoreIdMismatch && (!options.relink || parent === undefined)) {
    throw new VhdkitError('INVALID_ARGUMENT', 'Ids can be ignored only for a relink to a named parent', {
      operation: 'rebase',
      context,
      hint: 'Say --relink --parent PARENT --ignore-id-mismatch.',
    });
  }
  if (options.relink) return relink(host, options);
  if (parent === undefined || parent === '') {
    throw new VhdkitError('INVALID_ARGUMENT', `No parent was named for ${path}`, {
      operation: 'rebase',
      context,
      hint: 'Say --parent PARENT, or --relink to find the one it has. For an image without a parent: `vhdkit convert`.',
    });
  }
  return keepContent(host, { ...options, parent });
}
