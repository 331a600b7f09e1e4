/**
 * Where an image's snapshots are kept unless something else is said: by itself, so that whoever only wants to know
 * whether there are any loads nothing else.
 */

/** @param image its path without links */
export function snapshotFolder(image: string): string {
  return `${image}.vhdkit-snapshots`;
}
