/**
 * What fixed and sparse VHDs that are open for reading have in common.
 *
 * Invariant: nothing is ever written to the file. Existing images are read-only here: changing them in
 * place takes an order of writes that belongs to the operations that need it.
 */
import { VhdkitError } from '../../base/errors.js';
import { guidFromBytes, NIL_GUID } from '../../base/guid.js';
import type { Extent, PreparedWrite } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { CheckOptions, DiskImage, ImageLayout, ImageType, ParentLink } from '../disk-image.js';
import type { Finding } from '../finding.js';
import type { VhdStructures } from './structures.js';

/** Creator application as text, without padding; undefined when there is none. */
export function creatorName(application: string): string | undefined {
  const name = application.replace(/[^\x20-\x7e]/g, '').trim();
  return name === '' ? undefined : name;
}

export abstract class OpenVhd implements DiskImage {
  readonly format = 'vhd';
  readonly type: ImageType;
  readonly file: RandomAccessFile;
  readonly virtualSize: number;
  readonly logicalSectorSize = 512;
  readonly physicalSectorSize = 512;
  readonly id: string | undefined;
  readonly linkId: string | undefined;
  readonly creator: string | undefined;
  readonly log = 'none';
  readonly warnings: readonly Finding[];
  readonly unwrittenIsZero = false;
  abstract readonly blockSize: number | undefined;
  abstract readonly parentLink: ParentLink | undefined;

  constructor(structures: VhdStructures) {
    this.file = structures.file;
    this.type = structures.type;
    this.virtualSize = structures.virtualSize;
    const id = guidFromBytes(structures.footer.uniqueId);
    // An id of zeros names nothing: two such disks must never be taken for one.
    this.id = id === NIL_GUID ? undefined : id;
    this.linkId = this.id;
    this.creator = creatorName(structures.footer.creatorApplication);
    this.warnings = structures.warnings;
  }

  abstract locate(offset: number, length: number): Promise<Extent[]>;
  abstract layout(): Promise<ImageLayout>;
  abstract check(options?: CheckOptions): Promise<Finding[]>;

  /** @throws READ_ONLY always */
  async prepareWrite(): Promise<PreparedWrite> {
    throw new VhdkitError('READ_ONLY', `${this.file.path}: an existing VHD is open for reading only`, {
      operation: 'write',
      context: { path: this.file.path },
      hint: 'Convert the image into a new file instead.',
    });
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {
    await this.file.close();
  }
}
