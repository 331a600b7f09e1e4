/**
 * A raw image or LUN, open for writing.
 *
 * Invariant: there is no metadata: what is written is there, and the file's length is the disk's size.
 */
import { VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { EditableImage } from '../editable-image.js';
import { assertInsideDisk } from '../image-reader.js';
import { RawImage } from './raw-image.js';

class EditableRaw extends RawImage implements EditableImage {
  constructor(file: RandomAccessFile) {
    super(file, file.size(), 'editing');
  }

  async zero(offset: number, length: number): Promise<void> {
    assertInsideDisk(this.size, offset, length, this.file.path);
    await this.file.zero(offset, length);
  }

  async discard(offset: number, length: number): Promise<number> {
    const before = await this.file.allocatedBytes();
    await this.zero(offset, length);
    return Math.max(0, before - (await this.file.allocatedBytes()));
  }

  async resize(virtualSize: number): Promise<void> {
    await this.file.truncate(virtualSize);
    await this.file.flush();
    this.size = virtualSize;
  }

  async setParent(): Promise<void> {
    throw new VhdkitError('UNSUPPORTED', `${this.file.path} is a raw image, which has no parent`, {
      operation: 'set parent',
      context: { path: this.file.path },
    });
  }
}

/** Opens an existing raw image for writing. */
export async function editRaw(file: RandomAccessFile): Promise<EditableImage> {
  return new EditableRaw(file);
}
