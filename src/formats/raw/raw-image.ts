/**
 * Raw images and LUNs: the file's bytes are the disk's bytes.
 *
 * Holes of the file are zero extents. The disk's size is the file's length when it was opened, or the
 * device's capacity; a new image's size is what was asked for, also on a larger device.
 */
import { VhdkitError } from '../../base/errors.js';
import { type Extent, type PreparedWrite, pushExtent } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { DiskImage, ImageLayout, SectorSize } from '../disk-image.js';
import type { Finding } from '../finding.js';
import { assertInsideDisk } from '../image-reader.js';

const MAX_ALIGNMENT = 1024 * 1024;

export class RawImage implements DiskImage {
  readonly format = 'raw';
  readonly type = 'fixed';
  readonly blockSize = undefined;
  readonly logicalSectorSize: SectorSize = 512;
  readonly physicalSectorSize: SectorSize = 512;
  readonly id = undefined;
  readonly linkId = undefined;
  readonly creator = undefined;
  readonly parentLink = undefined;
  readonly log = 'none';
  readonly warnings: readonly Finding[] = [];
  readonly unwrittenIsZero: boolean;
  readonly file: RandomAccessFile;
  protected size: number;
  readonly #open: 'reading' | 'building' | 'editing';

  constructor(file: RandomAccessFile, virtualSize: number, open: 'reading' | 'building' | 'editing') {
    this.file = file;
    this.size = virtualSize;
    this.#open = open;
    // A device keeps what was on it; a new file is one hole.
    this.unwrittenIsZero = open === 'building' && file.kind !== 'device';
  }

  get virtualSize(): number {
    return this.size;
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    const extents: Extent[] = [];
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const data = this.file.nextData(at, end);
      const start = data ? data.offset : end;
      pushExtent(extents, { state: 'zero', offset: at, length: start - at });
      if (data) pushExtent(extents, { state: 'data', ...data, file: this.file, fileOffset: data.offset });
      at = data ? data.offset + data.length : end;
    }
    return extents;
  }

  async prepareWrite(offset: number, length: number): Promise<PreparedWrite> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    if (this.#open === 'reading') {
      throw new VhdkitError('READ_ONLY', `${this.file.path} is open for reading only`, {
        operation: 'write',
        context: { path: this.file.path, offset, length },
      });
    }
    const nothing = async (): Promise<void> => undefined;
    return {
      places: [{ offset, length, file: this.file, fileOffset: offset }],
      commit: nothing,
      abort: nothing,
    };
  }

  async flush(): Promise<void> {
    await this.file.flush();
  }

  async layout(): Promise<ImageLayout> {
    let extents = 0;
    for (let at = 0; at < this.virtualSize; ) {
      const data = this.file.nextData(at, this.virtualSize);
      if (!data) break;
      extents += 1;
      at = data.offset + data.length;
    }
    return {
      allocatedBlocks: 0,
      totalBlocks: 0,
      payloadAlignment: extents === 0 ? undefined : MAX_ALIGNMENT,
      extents,
    };
  }

  async check(): Promise<Finding[]> {
    return [];
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
