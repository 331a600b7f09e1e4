/**
 * A VHDX that was opened for reading.
 *
 * Invariant: the file's bytes never change through this class. Not here: images being built
 * (vhdx-builder.ts), finding parents (the chain does), writing into existing images.
 */
import { VhdkitError } from '../../base/errors.js';
import type { Extent, PreparedWrite } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type {
  CheckOptions,
  DiskImage,
  ImageLayout,
  ImageType,
  ParentLink,
  SectorSize,
} from '../disk-image.js';
import type { Finding } from '../finding.js';
import { assertInsideDisk } from '../image-reader.js';
import { BlockMap } from './block-map.js';
import { checkImage } from './check.js';
import { occupiedRanges, readStructures, type VhdxStructures } from './open.js';
import { PageCache } from './page-cache.js';

export class VhdxImage implements DiskImage {
  readonly format = 'vhdx';
  readonly type: ImageType;
  readonly file: RandomAccessFile;
  readonly virtualSize: number;
  readonly blockSize: number;
  readonly logicalSectorSize: SectorSize;
  readonly physicalSectorSize: SectorSize;
  readonly id: string | undefined;
  readonly linkId: string;
  readonly creator: string;
  readonly parentLink: ParentLink | undefined;
  readonly log: 'clean' | 'dirty';
  readonly warnings: readonly Finding[];
  readonly unwrittenIsZero = false;
  readonly #structures: VhdxStructures;
  readonly #map: BlockMap;

  /** Use `VhdxImage.open`. */
  constructor(structures: VhdxStructures) {
    const { file, overlay, metadata, regions, geometry } = structures;
    this.#structures = structures;
    this.type = structures.type;
    this.file = file;
    this.virtualSize = metadata.virtualSize;
    this.blockSize = metadata.blockSize;
    this.logicalSectorSize = metadata.logicalSectorSize;
    this.physicalSectorSize = metadata.physicalSectorSize;
    this.id = metadata.virtualDiskId;
    this.linkId = structures.header.dataWriteGuid;
    this.creator = structures.creator;
    this.parentLink = structures.parentLink;
    this.log = overlay ? 'dirty' : 'clean';
    this.warnings = structures.warnings;
    this.#map = new BlockMap({
      file,
      overlay,
      geometry,
      differencing: metadata.hasParent,
      bat: regions.bat,
      occupied: occupiedRanges(structures),
      batPages: new PageCache(overlay ?? file, 'the block allocation table'),
    });
  }

  /** @throws IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED */
  static async open(file: RandomAccessFile): Promise<VhdxImage> {
    return new VhdxImage(await readStructures(file));
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    return this.#map.locate(offset, length);
  }

  async prepareWrite(offset: number, length: number): Promise<PreparedWrite> {
    const { path } = this.file;
    throw new VhdkitError('READ_ONLY', `${path}: writing into an existing VHDX is not supported`, {
      operation: 'prepare write',
      context: { path, offset, length },
      hint: 'Convert the image to a new one.',
    });
  }

  async flush(): Promise<void> {}

  layout(): Promise<ImageLayout> {
    return this.#map.layout();
  }

  check(options: CheckOptions = {}): Promise<Finding[]> {
    return checkImage(this.#structures, options);
  }

  close(): Promise<void> {
    return this.file.close();
  }
}
