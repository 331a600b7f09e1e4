/**
 * Who names whom as parent, before and after the target changes.
 *
 * Invariants: at every instant the child's chain leads to the target, whichever id that has: before the
 * target gets another id, the image above it accepts both. Afterwards the child depends on the target
 * directly. An image between them shows something else now, because the target beneath it changed: where
 * an id stands for contents (VHDX) it goes back to the id that the target had, so that nobody takes it for
 * what it was. Nothing is removed before the target is durable, and the child last.
 */
import type { FileSystem } from '../../io/file-system.js';
import { parentLinkTo } from '../parent-link.js';
import type { OpenImages } from './open.js';
import type { MergePlan } from './plan.js';

/** Tells the image above the target which id the target is going to have. Durable when it returns. */
export async function announce({ above, target }: OpenImages, { nextId }: MergePlan): Promise<void> {
  const accepted = above.parentLink?.acceptedIds ?? [];
  if (nextId === undefined || accepted.includes(nextId)) return;
  await above.setParent(parentLinkTo(above.file.path, target, nextId));
}

/** After everything is durable in the target. Answers which images are not any more what they were. */
export async function settle(images: OpenImages, plan: MergePlan): Promise<string[]> {
  const { child, above, target } = images;
  for (const image of [...images.dependents, child]) {
    await image.setParent(parentLinkTo(image.file.path, target));
  }
  const between = plan.merged.slice(1);
  const [before] = plan.acceptedIds;
  if (above === child || target.linkId === before || before === undefined) return between;
  await above.setParent({ ...parentLinkTo(above.file.path, target), ids: [before] });
  return between;
}

/**
 * Removes what was merged: from the target up, so that what a crash leaves of the images between can't be
 * opened, and the child last, because until then it is the way to finish. They must be closed.
 * @throws IN_USE when somebody has taken one of them since, PERMISSION_DENIED
 */
export async function removeMerged(fileSystem: FileSystem, { merged }: MergePlan): Promise<string[]> {
  const removed: string[] = [];
  for (const path of [...merged].reverse()) {
    const lock = await fileSystem.lock(path);
    try {
      await fileSystem.remove(path);
    } finally {
      await lock.release();
    }
    removed.push(path);
  }
  return removed;
}
