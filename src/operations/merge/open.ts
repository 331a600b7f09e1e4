/**
 * Opens everything that a merge changes, for writing and locked, before anything is changed.
 *
 * Invariants: what was planned still holds when everything is locked; either all of it is open or nothing.
 * An image between child and target is only read: it is looked after that nobody else holds it.
 */
import { VhdkitError } from '../../base/errors.js';
import type { EditableImage } from '../../formats/editable-image.js';
import { heldBy } from '../../io/foreign-holder.js';
import { type Editing, openForEditing } from '../editing.js';
import type { Host } from '../host.js';
import type { MergePlan } from './plan.js';

export interface OpenImages {
  child: EditableImage;
  /** The image whose parent the target is; the child itself when only that is merged. */
  above: EditableImage;
  /** The last of the images between child and target, or of what an interrupted merge left of such. */
  lowest: EditableImage | undefined;
  target: EditableImage;
  /** Images that depend on the child. */
  dependents: readonly EditableImage[];
  close(): Promise<void>;
}

function changed(path: string): VhdkitError {
  return new VhdkitError('SOURCE_CHANGED', `${path} was changed while the merge was being prepared`, {
    operation: 'open images',
    context: { path },
    hint: 'Stop whatever writes to it, and try again.',
  });
}

/** @throws SOURCE_CHANGED */
function assertAsPlanned({ child, above, target }: OpenImages, plan: MergePlan): void {
  if (child.virtualSize !== plan.virtualSize) throw changed(child.file.path);
  if (target.linkId !== plan.targetId) throw changed(target.file.path);
  const ids = above.parentLink?.acceptedIds ?? [];
  if (ids.join() !== plan.acceptedIds.join()) throw changed(above.file.path);
}

/** @throws IN_USE with the holder's process id */
async function assertNotHeld({ fileSystem }: Host, path: string): Promise<void> {
  const holder = await fileSystem.holder(path);
  if (holder) throw heldBy(path, holder);
}

/** @throws IN_USE with the owner's process id, PERMISSION_DENIED, SOURCE_CHANGED, what opening an image throws */
export async function openImages(host: Host, plan: MergePlan): Promise<OpenImages> {
  const open: Editing[] = [];
  const edit = async (path: string, nextLinkId?: string): Promise<EditableImage> => {
    const editing = await openForEditing(host, path, nextLinkId === undefined ? {} : { nextLinkId });
    open.push(editing);
    return editing.image;
  };
  const close = async (): Promise<void> => {
    let failure: unknown;
    for (const editing of open.splice(0).reverse()) {
      await editing.close().catch((error: unknown) => {
        failure ??= error;
      });
    }
    if (failure !== undefined) throw failure;
  };
  try {
    const [top = plan.target, ...rest] = plan.merged;
    const child = await edit(top);
    const last = plan.between.at(-1)?.path;
    const lowest = last === undefined ? undefined : await edit(last);
    const above = rest.length > 0 && lowest ? lowest : child;
    const target = await edit(plan.target, plan.nextId);
    for (const { path } of plan.between.slice(0, -1)) await assertNotHeld(host, path);
    const dependents: EditableImage[] = [];
    for (const path of plan.dependents) dependents.push(await edit(path));
    const images = { child, above, lowest, target, dependents, close };
    assertAsPlanned(images, plan);
    return images;
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
}
