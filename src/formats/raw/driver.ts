/**
 * Raw images as the registry sees them.
 */
import { VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { CreateImageOptions, FormatDriver } from '../disk-image.js';
import { editRaw } from './edit.js';
import { RawImage } from './raw-image.js';

export const rawDriver: FormatDriver = {
  format: 'raw',
  async open(file) {
    return new RawImage(file, file.size(), 'reading');
  },
  edit: editRaw,
  async create(file: RandomAccessFile, options: CreateImageOptions) {
    if (file.kind === 'device') {
      if (file.size() < options.virtualSize) throw tooSmall(file, options.virtualSize);
    } else {
      await file.truncate(options.virtualSize);
    }
    return new RawImage(file, options.virtualSize, 'building');
  },
  async resume(file: RandomAccessFile, options: CreateImageOptions) {
    await file.truncate(options.virtualSize);
    return new RawImage(file, options.virtualSize, 'building');
  },
};

function tooSmall(file: RandomAccessFile, needed: number): VhdkitError {
  return new VhdkitError(
    'TARGET_TOO_SMALL',
    `${file.path} holds ${file.size()} bytes, but the disk has ${needed}`,
    {
      operation: 'create raw image',
      context: { path: file.path, length: needed, capacity: file.size() },
      hint: 'Use a device at least as large as the disk.',
    },
  );
}
