/**
 * `convert --in-place`: a fixed image becomes dynamic or a dynamic one fixed, without a second copy of its
 * payload.
 *
 * Invariants: the disk shows the same before, during and after, and keeps the id that children know it by;
 * an interrupted run can be repeated. What can't be done without copying payload or without an instant at
 * which the image can't be opened is refused before anything is changed.
 *
 * A raw image has no types: fixed means that all of it has storage, dynamic that zeros have none.
 */
import { VhdkitError } from '../base/errors.js';
import type { DiskImage } from '../formats/disk-image.js';
import type { EditableImage } from '../formats/editable-image.js';
import { openImage } from '../formats/registry.js';
import { isRelocatable } from '../formats/relocatable-image.js';
import { NOTHING_MOVED } from './bytes-moved.js';
import { giveBack, survey } from './compact/give-back.js';
import { fillBlocks, reserveFile } from './convert-in-place/reserve.js';
import { shareIntoNewLayout } from './convert-in-place/share.js';
import type { FileFacts, InPlaceOptions, InPlaceResult } from './convert-in-place/types.js';
import { openForEditing } from './editing.js';
import type { Host } from './host.js';
import { assertSound } from './sound.js';

export type { InPlaceOptions, InPlaceResult } from './convert-in-place/types.js';

/** An image whose type is a flag of its metadata. */
interface RetypableImage extends EditableImage {
  /** Every block has a place when it becomes fixed. Durable when it returns. */
  setType(type: 'fixed' | 'dynamic'): Promise<void>;
}

function isRetypable(image: EditableImage): image is RetypableImage {
  return 'setType' in image;
}

type Done = Pick<InPlaceResult, 'means' | 'after' | 'zerosGivenBack' | 'bytes'>;

async function factsOf({ file }: DiskImage): Promise<FileFacts> {
  return { fileSize: file.size(), allocatedBytes: await file.allocatedBytes() };
}

function refuse(path: string, message: string, hint: string): never {
  throw new VhdkitError('UNSUPPORTED', `${path}: ${message}`, {
    operation: 'convert in place',
    context: { path },
    hint,
  });
}

/** What an image is, looked up without its lock. */
async function lookAt(host: Host, { path, format }: InPlaceOptions): Promise<{ linkId: string | undefined }> {
  if ((await host.fileSystem.kind(path)) === 'device') {
    refuse(path, 'a block device has the storage that it has', 'Convert its contents into a file instead.');
  }
  const image = await openImage(await host.fileSystem.open(path), format ? { format } : {});
  try {
    if (image.type === 'differencing') {
      refuse(
        path,
        'a differencing image is neither fixed nor dynamic',
        'Merge it into its parent, or convert it into a new image.',
      );
    }
    return { linkId: image.linkId };
  } finally {
    await image.close();
  }
}

/** Does the other layout need another file? */
function needsNewLayout(image: DiskImage, type: string): boolean {
  return image.format === 'vhd' && image.type !== type;
}

async function changeType(image: EditableImage, type: 'fixed' | 'dynamic'): Promise<void> {
  if (image.type === type || image.format === 'raw') return;
  if (!isRetypable(image))
    return refuse(image.file.path, 'its type is not a matter of a flag', 'Convert it.');
  await image.setType(type);
}

async function makeFixed(image: EditableImage, options: InPlaceOptions): Promise<number> {
  if (image.blockSize !== undefined) await fillBlocks(image, options);
  await reserveFile(image.file, options);
  await image.flush();
  await changeType(image, 'fixed');
  return 0;
}

async function makeDynamic(image: EditableImage, options: InPlaceOptions): Promise<number> {
  await changeType(image, 'dynamic');
  const { zeros } = await giveBack(image, scanOptions(image, options));
  // Storage at the end of the file goes with the end.
  if (isRelocatable(image)) await image.trim();
  return zeros;
}

function scanOptions(image: DiskImage, { signal, progress, zeros }: InPlaceOptions) {
  return {
    zeros: zeros !== 'holes',
    ...(signal ? { signal } : {}),
    onProgress: (done: number) => progress?.update(done, image.virtualSize),
  };
}

async function change(image: EditableImage, options: InPlaceOptions): Promise<Done> {
  const { type, dryRun } = options;
  let zerosGivenBack = 0;
  if (dryRun) {
    if (type === 'dynamic') zerosGivenBack = (await survey(image, scanOptions(image, options))).zeros;
  } else {
    zerosGivenBack = await (type === 'fixed' ? makeFixed : makeDynamic)(image, options);
  }
  return { means: 'sameFile', after: await factsOf(image), zerosGivenBack, bytes: NOTHING_MOVED };
}

/**
 * @throws UNSUPPORTED (differencing, a device, saved state, no way without a copy), IN_USE, IMAGE_CORRUPT,
 *   NO_SPACE, CANCELLED, NOT_FOUND, FORMAT_UNKNOWN, IO_FAILED
 */
export async function convertInPlace(host: Host, options: InPlaceOptions): Promise<InPlaceResult> {
  const started = host.clock.now();
  const { path, format, type } = options;
  const { linkId } = await lookAt(host, options);
  // The content stays, so the id by which children know it stays too.
  const editing = await openForEditing(host, path, {
    ...(format ? { format } : {}),
    ...(linkId === undefined ? {} : { nextLinkId: linkId }),
  });
  const { image } = editing;
  try {
    if (image.linkId !== linkId) {
      throw new VhdkitError('SOURCE_CHANGED', `${path} was changed by another program just now`, {
        operation: 'convert in place',
        context: { path },
        hint: 'Stop whatever writes to it.',
      });
    }
    await assertSound(image);
    const { format: found, type: from, virtualSize } = image;
    const before = await factsOf(image);
    const done = needsNewLayout(image, type)
      ? { means: 'sharedExtents' as const, ...(await shareIntoNewLayout(host, image, options)) }
      : await change(image, options);
    // Stored zeros are counted in units of the format, and a file may have had holes there already.
    const freed = Math.max(0, before.allocatedBytes - (options.dryRun ? 0 : done.after.allocatedBytes));
    return {
      path,
      format: found,
      from,
      type,
      virtualSize,
      before,
      ...done,
      zerosGivenBack: Math.min(done.zerosGivenBack, freed),
      dryRun: options.dryRun ?? false,
      elapsedMs: host.clock.now() - started,
      warnings: [...image.warnings],
    };
  } finally {
    await editing.close();
  }
}
