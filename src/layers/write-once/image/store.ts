/**
 * Making and opening write-once devices that are VHD or VHDX images.
 *
 * Invariant: the image is locked before it is looked at, also for reading. The id of the primary is the id of the disk.
 */
import { type Clock, systemClock } from '../../../base/clock.js';
import { VhdkitError } from '../../../base/errors.js';
import type { RandomSource } from '../../../base/random.js';
import type { DiskImage, FormatId } from '../../../formats/disk-image.js';
import { createImage, editImage, openImage } from '../../../formats/registry.js';
import type { FileSystem } from '../../../io/file-system.js';
import type { RandomAccessFile } from '../../../io/random-access-file.js';
import { diskIdOf } from '../primary-id.js';
import { assertExpected, type Expectations, notEmpty, type WriteOnceShape } from '../shape.js';
import { ImageWriteOnceDevice } from './image-device.js';

type ImageKind = 'vhd' | 'vhdx';

interface ImageAccess {
  fileSystem: FileSystem;
  random: RandomSource;
  clock?: Clock;
}

/** @throws INVALID_ARGUMENT (sizes that the format does not know), ALREADY_EXISTS, TARGET_TOO_SMALL, … */
export async function createImageDevice(
  kind: ImageKind,
  path: string,
  shape: WriteOnceShape,
  { fileSystem, random, clock = systemClock }: ImageAccess,
  overwrite: boolean,
): Promise<void> {
  const pending = await fileSystem.createPending(path, { overwrite });
  try {
    const image = await createImage(pending.file, kind, {
      type: 'dynamic',
      virtualSize: shape.size,
      blockSize: shape.chunkSize,
      diskId: diskIdOf(shape.primaryId),
      clock,
      random,
    });
    await image.flush();
    await pending.publish();
  } catch (error) {
    await pending.discard();
    throw error;
  }
}

function shapeOf(image: DiskImage, expected: Expectations): WriteOnceShape & { kind: ImageKind } {
  const { path } = image.file;
  if (image.format === 'raw' || image.type !== 'dynamic' || image.blockSize === undefined) {
    throw new VhdkitError('FORMAT_UNKNOWN', `${path} is a ${image.type} image, no write-once device`, {
      operation: 'open write-once device',
      context: { path },
      hint: 'Only of dynamic images it is known which blocks have been written.',
    });
  }
  const { primaryId: wanted } = expected;
  const id = image.id ?? '';
  return {
    kind: image.format,
    size: image.virtualSize,
    chunkSize: image.blockSize,
    primaryId: wanted !== undefined && diskIdOf(wanted) === id ? wanted : id,
  };
}

/** Whether an image is the device that is expected. Takes no lock. @throws as `openImageDevice`, but for IN_USE */
export async function lookAtImageDevice(
  file: RandomAccessFile,
  format: FormatId,
  expected: Expectations,
): Promise<void> {
  const image = await openImage(file, { format });
  assertExpected(file.path, shapeOf(image, expected), expected);
}

/** @throws WRITE_ONCE_MISMATCH, FORMAT_UNKNOWN, IMAGE_CORRUPT, IN_USE, IO_FAILED */
export async function openImageDevice(
  path: string,
  format: FormatId,
  expected: Expectations & { writable: boolean },
  { fileSystem, random, clock = systemClock }: ImageAccess,
): Promise<ImageWriteOnceDevice> {
  const lock = await fileSystem.lock(path);
  let image: DiskImage | undefined;
  try {
    const file = await fileSystem.open(path, { writable: expected.writable });
    const editable = expected.writable ? await editImage(file, { clock, random }, { format }) : undefined;
    image = editable ?? (await openImage(file, { format }));
    const shape = shapeOf(image, expected);
    assertExpected(path, shape, expected);
    const device = new ImageWriteOnceDevice(image, editable, shape, lock);
    if (expected.empty) for await (const _ of device.written()) throw notEmpty(path);
    return device;
  } catch (error) {
    await image?.close();
    await lock.release();
    throw error;
  }
}
