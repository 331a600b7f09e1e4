/**
 * Opens everything that a merge changes, for writing and locked, before anything is changed.
 *
 * Invariants: what was planned still holds when everything is locked; either all of it is open or nothing.
 * An image between child and target is only read: it is looked after that nobody else holds it.
 */
import { VhdkitError } from '../../base/errors.js';
import type { EditableImage } from '../../formats/editable-image.js';
import { type Editing, openForEditing } from '../editing.js';
import type { Host } from '../host.js';
import type { MergePlan } from './plan.js';

export interface OpenImages {
  child: EditableImage;
  /** The image whose parent the target is; the child itself when only that is merged. */
  above: EditableImage;
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
function assertAsPlanned({ child, above, target }: Omit<OpenImages, 'close'>, plan: MergePlan): void {
  if (child.virtualSize !== plan.virtualSize) throw changed(child.file.path);
  if (target.linkId !== plan.targetId) throw changed(target.file.path);
  const ids = above.parentLink?.acceptedIds ?? [];
  if (ids.join() !== plan.acceptedIds.join()) throw changed(above.file.path);
}

/** @throws IN_USE with the holder's process id */
async function assertNotHeld({ fileSystem }: Host, path: string): Promise<void> {
  const holder = await fileSystem.holder(path);
  if (!holder) return;
  throw new VhdkitError('IN_USE', `${path} is in use by process ${holder.pid} on ${holder.host}`, {
    operation: 'open images',
    context: { path, pid: holder.pid, host: holder.host },
    hint: 'Wait for it to end, then try again.',
  });
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
    for (const editing of open.splice(0).reverse()) await editing.close();
  };
  try {
    const [top, ...rest] = plan.merged;
    const child = await edit(top ?? plan.target);
    const last = rest.pop();
    const above = last === undefined ? child : await edit(last);
    const target = await edit(plan.target, plan.nextId);
    for (const path of rest) await assertNotHeld(host, path);
    const dependents: EditableImage[] = [];
    for (const path of plan.dependents) dependents.push(await edit(path));
    assertAsPlanned({ child, above, target, dependents }, plan);
    return { child, above, target, dependents, close };
  } catch (error) {
    await close();
    throw error;
  }
}
