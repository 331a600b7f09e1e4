/**
 * Raw images and LUNs: the file's bytes are the disk's bytes.
 *
 * Holes of the file are zero extents. The disk's size is the file's length when it was opened, or the
 * device's capacity; a new image's size is what was asked for, also on a larger device.
 */
import { VhdkitError } from '../../base/errors.js';
import { type Extent, type PreparedWrite, pushExtent } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { CreateImageOptions, DiskImage, FormatDriver, ImageLayout, SectorSize } from '../disk-image.js';
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
  readonly virtualSize: number;
  readonly #building: boolean;

  constructor(file: RandomAccessFile, virtualSize: number, building: boolean) {
    this.file = file;
    this.virtualSize = virtualSize;
    this.#building = building;
    // A device keeps what was on it; a new file is one hole.
    this.unwrittenIsZero = building && file.kind !== 'device';
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
    if (!this.#building) {
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

export const rawDriver: FormatDriver = {
  format: 'raw',
  async open(file) {
    return new RawImage(file, file.size(), false);
  },
  async create(file: RandomAccessFile, options: CreateImageOptions) {
    if (file.kind === 'device') {
      if (file.size() < options.virtualSize) throw tooSmall(file, options.virtualSize);
    } else {
      await file.truncate(options.virtualSize);
    }
    return new RawImage(file, options.virtualSize, true);
  },
  async resume(file: RandomAccessFile, options: CreateImageOptions) {
    await file.truncate(options.virtualSize);
    return new RawImage(file, options.virtualSize, true);
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
