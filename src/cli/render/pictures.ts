/**
 * Pictures of an image before and after work that rearranges it.
 *
 * Taken only for people: a walk over the block table each. What can't be looked at gives no picture, and
 * the work itself says what is wrong.
 */
import { isVhdkitError } from '../../base/errors.js';
import type { FormatId } from '../../formats/disk-image.js';
import type { Host } from '../../operations/host.js';
import { openMap } from '../../operations/map.js';
import { BlockMap, hasUnicode, renderBlockMap } from './block-map.js';
import type { Style } from './style.js';

/** The image alone, without what its parents hold. */
export async function takePicture(
  host: Host,
  path: string,
  format: FormatId | undefined,
  signal: AbortSignal,
): Promise<BlockMap | undefined> {
  try {
    const map = await openMap(host, { path, withoutParent: true, signal, ...(format ? { format } : {}) });
    try {
      const picture = new BlockMap(map.virtualSize, map.blockSize, 'terminal');
      for await (const entry of map.entries()) picture.add(entry);
      return picture;
    } finally {
      await map.close();
    }
  } catch (error) {
    if (isVhdkitError(error)) return undefined;
    throw error;
  }
}

/** One picture, or two with their titles; one when nothing changed. */
export function renderPictures(
  before: BlockMap | undefined,
  after: BlockMap | undefined,
  style: Style,
): string[] {
  const render = (picture: BlockMap) => renderBlockMap(picture, style, hasUnicode());
  const titled = (title: string, lines: string[]): string[] => ['', style.bold(title), ...lines];
  if (!before) return [];
  const old = render(before);
  if (!after) return titled('Before', old);
  const now = render(after);
  if (now.join('\n') === old.join('\n')) return titled('Before and after', now);
  return [...titled('Before', old), ...titled('After', now)];
}
