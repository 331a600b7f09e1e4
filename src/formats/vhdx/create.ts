/**
 * New VHDX images, and the taking up of interrupted ones.
 *
 * Invariant: the two headers are written last of all (by the image's flush), so a file that was abandoned
 * half-way has no valid header and no reader takes it for an image.
 *
 * Fixed and dynamic images are filled by the builder, block by block. A differencing image is filled sector by
 * sector, as an existing one is: it is edited from the start, only that its tables go into the file without
 * a log.
 */
import { assert } from '../../base/assert.js';
import { VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { CreateImageOptions } from '../disk-image.js';
import { buildChild } from './child-builder.js';
import type { EditableVhdx } from './editable-vhdx.js';
import { planImage, writeStructures } from './new-image.js';
import { VhdxBuilder } from './vhdx-builder.js';

/**
 * Lays out a new image in an empty file. Complete after `flush`.
 * @throws INVALID_ARGUMENT, TARGET_TOO_SMALL (more than 64 TiB), UNSUPPORTED (a device), IO_FAILED
 */
export async function createVhdx(
  file: RandomAccessFile,
  options: CreateImageOptions,
): Promise<VhdxBuilder | EditableVhdx> {
  if (file.kind === 'device') {
    throw new VhdkitError('UNSUPPORTED', `${file.path}: a VHDX can't be laid out on a device`, {
      operation: 'create image',
      context: { path: file.path },
      hint: 'Give a file name, or write the disk to the device as raw.',
    });
  }
  assert(file.size() === 0, 'a new image is laid out in an empty file');
  const plan = planImage(options, file.path);
  await file.truncate(plan.payloadOffset);
  await writeStructures(file, plan);
  if (plan.type === 'differencing') return buildChild(file, plan);
  const builder = new VhdxBuilder(file, plan);
  if (plan.type === 'fixed') await builder.allocateAll();
  return builder;
}

/**
 * See FormatDriver.resume. The layout follows from the options alone, so the structures are written anew
 * (with new ids: nobody has seen the old ones) around the table that is there.
 */
export async function resumeVhdx(
  file: RandomAccessFile,
  options: CreateImageOptions,
): Promise<VhdxBuilder | EditableVhdx> {
  const plan = planImage(options, file.path);
  if (plan.type === 'differencing') {
    await writeStructures(file, plan);
    return buildChild(file, plan);
  }
  const builder = new VhdxBuilder(file, plan);
  if (plan.type === 'fixed') await builder.allocateAll();
  else await builder.takeUp();
  await writeStructures(file, plan);
  return builder;
}
