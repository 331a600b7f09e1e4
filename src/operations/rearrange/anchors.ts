/**
 * Places that blocks without payload hold on to (VHDX soft anchors): dropped before units are rearranged.
 *
 * Invariant: no visible change, and durable before anything else is put there.
 */
import type { RelocatableImage } from '../../formats/relocatable-image.js';

/** Answers how many there were. */
export async function dropAnchors(image: RelocatableImage): Promise<number> {
  const ids: number[] = [];
  for await (const unit of image.units()) if (unit.kind === 'anchor') ids.push(unit.id);
  for (const id of ids) await image.dropAnchor(id);
  if (ids.length > 0) await image.flush();
  return ids.length;
}
