/**
 * Gives every byte of an image storage of its own: what `fixed` means on the host.
 *
 * Invariant: the disk shows the same throughout. An interrupted run has done a part; running again goes on.
 */
import { MiB } from '../../base/bytes.js';
import { throwIfAborted, VhdkitError } from '../../base/errors.js';
import { walkExtents } from '../../block/extent.js';
import type { EditableImage } from '../../formats/editable-image.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ProgressSink } from '../host.js';

/** Bounds the wait for cancellation where storage must be written to be reserved. */
const SLICE = 256 * MiB;

export interface ReserveOptions {
  signal?: AbortSignal;
  progress?: ProgressSink;
}

/**
 * Reserves storage for the whole file.
 * @throws NO_SPACE, CANCELLED, IO_FAILED
 */
export async function reserveFile(file: RandomAccessFile, options: ReserveOptions): Promise<void> {
  if (!file.allocate) return;
  const size = file.size();
  for (let at = 0; at < size; at += SLICE) {
    throwIfAborted(options.signal, 'reserve storage');
    await file.allocate(at, Math.min(SLICE, size - at));
    options.progress?.update(Math.min(at + SLICE, size), size);
  }
}

async function fillRange(image: EditableImage, offset: number, length: number): Promise<void> {
  const write = await image.prepareWrite(offset, length);
  try {
    for (const place of write.places) {
      // What is behind a place of a new block is nobody's, and need not be zero.
      await place.file.zero(place.fileOffset, place.length);
      await place.file.allocate?.(place.fileOffset, place.length);
    }
  } catch (error) {
    await write.abort().catch(() => undefined);
    throw error;
  }
  await write.commit();
}

/**
 * Gives every block of an image a place, full of zeros where it had none. Durable when it returns, and as far
 * as it got when it throws.
 * @throws NO_SPACE, CANCELLED, IO_FAILED
 */
export async function fillBlocks(image: EditableImage, options: ReserveOptions): Promise<void> {
  const { signal, progress } = options;
  const total = image.virtualSize;
  try {
    for await (const { state, offset, length } of walkExtents(image, { offset: 0, length: total }, SLICE)) {
      throwIfAborted(signal, 'reserve storage');
      if (state === 'absent') {
        throw new VhdkitError('UNSUPPORTED', `${image.file.path} has a parent: it can't be fixed`);
      }
      if (state === 'zero') await fillRange(image, offset, length);
      progress?.update(offset + length, total);
    }
  } catch (error) {
    await image.flush().catch(() => undefined);
    throw error;
  }
  await image.flush();
}
