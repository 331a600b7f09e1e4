/**
 * Carries out a resize plan on an image that is open for writing.
 *
 * Invariant: at every instant the disk has its old or its new size, and a GPT one sound copy that an
 * operating system finds: a disk that grows does so before the table's backup moves to the new end, one that
 * shrinks after. Each step of a move is durable before the next one begins.
 */
import { roundDown, roundUp } from '../../base/bytes.js';
import { Chain } from '../../formats/chain.js';
import type { DiskImage } from '../../formats/disk-image.js';
import type { EditableImage } from '../../formats/editable-image.js';
import { readDisk } from '../../formats/image-reader.js';
import type { Edit } from '../../guestfs/resector.js';
import type { ResizePlan } from './plan.js';

/** Puts bytes anywhere on the disk; the rest of the sectors they touch keeps what the chain shows. */
async function put(image: EditableImage, parents: readonly DiskImage[], edit: Edit): Promise<void> {
  const unit = image.logicalSectorSize;
  const start = roundDown(edit.offset, unit);
  const end = Math.min(roundUp(edit.offset + edit.bytes.length, unit), image.virtualSize);
  const bytes = new Uint8Array(end - start);
  if (bytes.length !== edit.bytes.length) await readDisk(new Chain([image, ...parents]), bytes, start);
  bytes.set(edit.bytes, edit.offset - start);
  const write = await image.prepareWrite(start, bytes.length);
  try {
    for (const { offset, length, file, fileOffset } of write.places) {
      await file.write(bytes.subarray(offset - start, offset - start + length), fileOffset);
    }
  } catch (error) {
    await write.abort().catch(() => undefined);
    throw error;
  }
  await write.commit();
}

async function moveTable(
  image: EditableImage,
  parents: readonly DiskImage[],
  plan: ResizePlan,
): Promise<void> {
  for (const step of plan.move?.steps ?? []) {
    for (const edit of step) await put(image, parents, edit);
    await image.flush();
  }
}

/** @param parents what lies beneath the image, nearest first */
export async function applyResize(
  image: EditableImage,
  parents: readonly DiskImage[],
  plan: ResizePlan,
): Promise<void> {
  const { oldSize, newSize } = plan;
  const parentSize = parents[0]?.virtualSize;
  const resize = (): Promise<void> => image.resize(newSize, parentSize === undefined ? {} : { parentSize });
  if (newSize < oldSize) {
    await moveTable(image, parents, plan);
    await resize();
    return;
  }
  if (newSize > oldSize) await resize();
  await moveTable(image, parents, plan);
}
