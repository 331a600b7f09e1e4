/**
 * Who names whom as parent, before and after the target changes.
 *
 * Invariants: at every instant the child's chain leads to the target, whichever id that has: before the
 * target gets another id, the image above it accepts both. Afterwards the child depends on the target
 * directly. An image between them shows something else now, because the target beneath it changed: it gets
 * an id for its parent that no image has, or that of the target as it was (VHDX), so that nobody takes it
 * for what it was or merges it once more. Nothing is removed before the target is durable, the child last.
 */
import { isVhdkitError } from '../../base/errors.js';
import { randomGuid } from '../../base/random.js';
import type { EditableImage } from '../../formats/editable-image.js';
import type { FileSystem } from '../../io/file-system.js';
import type { Host } from '../host.js';
import { parentLinkTo } from '../parent-link.js';
import { forgetLeftovers, recordLeftovers } from './leftovers.js';
import type { OpenImages } from './open.js';
import type { MergePlan } from './plan.js';

/** Tells the image above the target which id the target is going to have. Durable when it returns. */
export async function announce({ above, target }: OpenImages, { nextId }: MergePlan): Promise<void> {
  const accepted = above.parentLink?.acceptedIds ?? [];
  if (nextId === undefined || accepted.includes(nextId)) return;
  await above.setParent(parentLinkTo(above.file.path, target, nextId));
}

/** Cuts an image off whose parent is not any more what it was made over. */
async function orphan(host: Host, image: EditableImage, target: EditableImage): Promise<void> {
  const [made] = image.parentLink?.acceptedIds ?? [];
  const id = made === undefined || made === target.linkId ? randomGuid(host.random) : made;
  await image.setParent({ ...parentLinkTo(image.file.path, target), ids: [id] });
}

/** After everything is durable in the target: the links are as they are to stay. */
export async function settle(host: Host, images: OpenImages, plan: MergePlan): Promise<void> {
  const { child, lowest, target } = images;
  const { fileSystem } = host;
  if (plan.merged.length > 1) await recordLeftovers(fileSystem, child.file.path, target, plan.between);
  for (const image of [...images.dependents, child]) {
    await image.setParent(parentLinkTo(image.file.path, target));
  }
  if (lowest) await orphan(host, lowest, target);
}

/** What `removeMerged` removes, in this order. */
export function removals({ merged, between }: MergePlan): string[] {
  return [...between.map(({ path }) => path).reverse(), ...merged.slice(0, 1)];
}

/** The file itself, and the link that led to it if one did. */
async function removeFile(fileSystem: FileSystem, path: string): Promise<void> {
  const real = (await fileSystem.realPath?.(path)) ?? path;
  await fileSystem.remove(real);
  if (real === path) return;
  await fileSystem.remove(path).catch((error: unknown) => {
    // The link was to a folder on the way.
    if (!isVhdkitError(error) || error.code !== 'NOT_FOUND') throw error;
  });
}

/**
 * Removes what was merged: from the target up, so that what a crash leaves of the images between can't be
 * opened, and the child last, because until then it is the way to finish. They must be closed.
 * @throws IN_USE when somebody has taken one of them since, PERMISSION_DENIED
 */
export async function removeMerged({ fileSystem }: Host, plan: MergePlan): Promise<string[]> {
  const removed = removals(plan);
  for (const [index, path] of removed.entries()) {
    const lock = await fileSystem.lock(path);
    try {
      if (index === removed.length - 1) await forgetLeftovers(fileSystem, path);
      await removeFile(fileSystem, path);
    } finally {
      await lock.release();
    }
  }
  return removed;
}
