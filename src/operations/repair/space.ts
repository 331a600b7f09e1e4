/**
 * Gives back the space in an image's file that nothing uses: blocks move down into it, the end is cut off.
 *
 * Invariants: only images whose tables are sound are moved about in. As long as little space is given back,
 * every byte that is written over or cut off is saved, so that the whole repair can be undone. Where it is much,
 * the structures are saved and the backup says that blocks were moved: it would take a copy of the image.
 */
import { MiB } from '../../base/bytes.js';
import type { FormatId } from '../../formats/disk-image.js';
import type { EditableImage } from '../../formats/editable-image.js';
import { editImage } from '../../formats/registry.js';
import { isRelocatable, type RelocatableImage } from '../../formats/relocatable-image.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { moveDown } from '../compact/move-down.js';
import type { Host, ProgressSink } from '../host.js';
import { sessionFor } from '../session.js';
import { assertSound } from '../sound.js';
import { openToChange } from '../token/own-changes.js';
import type { RepairBackup } from './backup.js';

/** Space given back up to which all bytes are saved. */
const SAVED_WHOLE = 256 * MiB;
/** What ends a VHD, saved with the structures. */
const TAIL = 1024;

export interface ReturnOptions {
  path: string;
  format?: FormatId;
  signal?: AbortSignal;
  onMove?: () => Promise<ProgressSink>;
}

/** @throws IMAGE_CORRUPT, UNSUPPORTED (the image can't be changed), NO_SPACE, CANCELLED, IO_FAILED */
export async function returnSpace(host: Host, backup: RepairBackup, options: ReturnOptions): Promise<void> {
  const image = await open(host, options, (file) => backup.guard(file));
  try {
    await assertSound(image);
    if (!isRelocatable(image)) return;
    if ((await unusedIn(image)) <= SAVED_WHOLE) return await shorten(host, image, options);
    const structures = [...image.immovable()];
    const guard = backup.guard(image.file);
    for (const { offset, length } of structures) await guard.save(offset, length);
    await guard.save(Math.max(0, guard.size() - TAIL), TAIL);
    await backup.note({ blocksMoved: true });
  } finally {
    await image.close();
  }
  const plain = await open(host, options, (file) => file);
  try {
    if (isRelocatable(plain)) await shorten(host, plain, options);
  } finally {
    await plain.close();
  }
}

/** The lock is the caller's. */
async function open(
  host: Host,
  { path, format }: ReturnOptions,
  wrap: (file: RandomAccessFile) => RandomAccessFile,
): Promise<EditableImage> {
  const { clock, random } = host;
  const file = wrap(await openToChange(host, path));
  return editImage(file, { clock, random }, format ? { format } : {});
}

async function unusedIn(image: RelocatableImage): Promise<number> {
  let used = 0;
  for (const { length } of image.immovable()) used += length;
  for await (const { length } of image.units()) used += length;
  return image.file.size() - used;
}

async function shorten(host: Host, image: RelocatableImage, options: ReturnOptions): Promise<void> {
  const { signal, onMove } = options;
  const progress = await onMove?.();
  const stop = signal ? { signal } : {};
  await moveDown(image, { session: sessionFor(host, stop), ...stop, ...(progress ? { progress } : {}) });
}
