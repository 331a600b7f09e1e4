/**
 * A chain whose top is open for writing: what is read goes through all of it, what is written goes into the
 * top.
 *
 * Invariants: the top is locked as long as it is open; its parents are open for reading only, and nobody
 * changed them when the chain was opened.
 *
 * Not here: whether other images depend on the top (children.ts).
 */
import { Chain, openChain } from '../formats/chain.js';
import type { DiskImage } from '../formats/disk-image.js';
import type { EditableImage } from '../formats/editable-image.js';
import type { FileSystem } from '../io/file-system.js';
import { heldBy } from '../io/foreign-holder.js';
import { type EditOptions, openForEditing } from './editing.js';
import type { Host } from './host.js';

export interface EditableChain {
  readonly top: EditableImage;
  /** The top as it is being changed, and its parents. */
  readonly chain: Chain;
  /** Closes everything without flushing it, and gives the lock back. */
  close(): Promise<void>;
}

/**
 * Refuses images that another process changes at this moment: what is read from them may be half written.
 * @throws IN_USE with the owner's process id
 */
export async function assertNotHeld(fileSystem: FileSystem, images: readonly DiskImage[]): Promise<void> {
  for (const { file } of images) {
    const holder = await fileSystem.holder(file.path);
    if (holder) throw heldBy(file.path, holder);
  }
}

/**
 * @throws what openForEditing and openChain throw
 */
export async function openEditableChain(
  host: Host,
  path: string,
  options: EditOptions = {},
): Promise<EditableChain> {
  const { fileSystem } = host;
  const editing = await openForEditing(host, path, options);
  const top = editing.image;
  let parents: readonly DiskImage[] = [];
  const close = async (): Promise<void> => {
    try {
      for (const parent of parents) await parent.close();
    } finally {
      await editing.close();
    }
  };
  try {
    if (top.parentLink) {
      const opened = await openChain(fileSystem, path, { format: top.format });
      parents = opened.images.slice(1);
      await opened.top.close();
      await assertNotHeld(fileSystem, parents);
    }
    return { top, chain: new Chain([top, ...parents]), close };
  } catch (error) {
    await close();
    throw error;
  }
}
