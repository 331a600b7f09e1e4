/**
 * What a child is to remember of a parent: ids, paths, time.
 *
 * Invariant: the relative path leads from the child's folder to the parent's file as named, so that a
 * folder with both can be moved as a whole. Folders are taken without links: whoever follows `..` gets out of
 * the folder that a link leads to, not of the one that the link is in.
 */
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { VhdkitError } from '../base/errors.js';
import type { DiskImage } from '../formats/disk-image.js';
import type { NewParentLink } from '../formats/editable-image.js';
import { realFolder } from '../io/node-path.js';

/**
 * @param childPath where the child is or will be
 * @param nextId an id that a change of the parent is about to give it (VHDX)
 * @throws UNSUPPORTED when the parent has no id that a child could know it by
 */
export function parentLinkTo(childPath: string, parent: DiskImage, nextId?: string): NewParentLink {
  const { path } = parent.file;
  if (parent.linkId === undefined) {
    throw new VhdkitError('UNSUPPORTED', `${path} has no id, so no child can be sure of it`, {
      operation: 'link parent',
      context: { path },
      hint: 'Convert it to VHD or VHDX first; the copy gets an id.',
    });
  }
  const absolutePath = join(realFolder(dirname(resolve(path))), basename(path));
  const fromChild = relative(realFolder(dirname(resolve(childPath))), absolutePath);
  const mtime = parent.file.fingerprint()?.mtime ?? 0n;
  return {
    ids: nextId === undefined ? [parent.linkId] : [parent.linkId, nextId],
    absolutePath,
    relativePath: isAbsolute(fromChild) ? undefined : fromChild,
    modified: Number(mtime / 1_000_000n),
  };
}
