/**
 * Naming another parent, or the same one elsewhere (MS-VHDX 2.6.2.6).
 *
 * Invariant: the locator is written anew as a whole and its table entry with it, through one log entry: at every
 * instant the image names either the old or the new parent. Paths of the old one (a volume path too) go with
 * it.
 */
import { VhdkitError } from '../../base/errors.js';
import type { NewParentLink } from '../editable-image.js';
import { type EditContext, metadataPages } from './edit-context.js';
import { ITEM_GUID } from './layout.js';
import { replaceItem, sectorsTouched } from './metadata-update.js';
import { encodeParentLocator, locatorPairs, parentLinkOf } from './parent-locator.js';

/** Assumes that the session has begun. Durable when it returns. @throws UNSUPPORTED (no room), IO_FAILED */
export async function updateLocator(context: EditContext, link: NewParentLink): Promise<void> {
  const { pages, structures, file } = context;
  const pairs = locatorPairs(link);
  const bytes = encodeParentLocator(pairs);
  await pages.reserve(sectorsTouched(bytes.length) + 1);
  const offset = await replaceItem(metadataPages(context), ITEM_GUID.parentLocator, bytes);
  await context.write();
  context.adopt({
    metadata: { ...structures.metadata, parentLocator: { bytes, offset } },
    parentLink: parentLinkOf(pairs, offset, file.path),
  });
}

/** @throws UNSUPPORTED for an image without a parent */
export function assertDifferencing(context: EditContext): void {
  if (context.structures.metadata.hasParent) return;
  const { path } = context.file;
  throw new VhdkitError('UNSUPPORTED', `${path} is not a differencing image: it has no parent`, {
    operation: 'set parent',
    context: { path },
  });
}
