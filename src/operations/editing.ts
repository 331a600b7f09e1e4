/**
 * Opening an existing image to change it.
 *
 * Invariant: whoever changes an image holds its lock from before it is opened until after it is closed, and
 * nobody changes one that another process holds.
 *
 * Not here: which image of a chain is changed, and what that means for others.
 */
import type { FormatId } from '../formats/disk-image.js';
import type { EditableImage } from '../formats/editable-image.js';
import { editImage } from '../formats/registry.js';
import type { Host } from './host.js';
import { refuseVolume, withSnapshots } from './snapshot/present.js';
import { type ChangeOptions, openToChange } from './token/own-changes.js';

export interface EditOptions extends ChangeOptions {
  format?: FormatId;
  /** See WriteAccess. */
  nextLinkId?: string;
  /** Changes go through the layers that keep what the image was. */
  keepsPast?: boolean;
}

export interface Editing {
  readonly image: EditableImage;
  /** Closes the image without flushing it, and gives the lock back. */
  close(): Promise<void>;
}

/**
 * Opens an image for writing and locks it.
 * @throws IN_USE with the owner's process id, HAS_SNAPSHOTS, NOT_FOUND, PERMISSION_DENIED, FORMAT_UNKNOWN,
 *   IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED
 */
export async function openForEditing(host: Host, path: string, options: EditOptions = {}): Promise<Editing> {
  const { clock, random } = host;
  const lock = await host.fileSystem.lock(path);
  try {
    if (!options.keepsPast) await refuseVolume(host, path);
    const file = await openToChange(host, path, options);
    const { format, nextLinkId } = options;
    const access = { clock, random, ...(nextLinkId === undefined ? {} : { nextLinkId }) };
    const opened = await editImage(file, access, format ? { format } : {});
    const image = options.keepsPast ? opened : await withSnapshots(host, opened);
    return {
      image,
      async close() {
        try {
          await image.close();
        } finally {
          await lock.release();
        }
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}
