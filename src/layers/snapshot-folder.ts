/**
 * Where an image's past is kept unless something else is said: by itself, so that whoever only wants to know whether
 * there is any loads nothing else. Images are named without links.
 */
import { join } from 'node:path';

/** Of write-once snapshots. */
export function snapshotFolder(image: string): string {
  return `${image}.vhdkit-snapshots`;
}

/** Of the preserved one of two volumes. */
export function volumeFolder(image: string): string {
  return `${image}.vhdkit-volumes`;
}

/** What is there exactly if an image has a preserved volume. */
export function volumeRecord(image: string): string {
  return join(volumeFolder(image), 'manifest.json');
}
