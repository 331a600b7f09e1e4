/**
 * What fixed and sparse VHDs that are open for reading have in common.
 *
 * Invariant: nothing is ever written to the file. Not here: images that are open for writing
 * (editable-vhd.ts).
 */
import { VhdkitError } from '../../base/errors.js';
import type { Extent, PreparedWrite } from '../../block/extent.js';
import type { CheckOptions, DiskImage, ImageLayout, ParentLink } from '../disk-image.js';
import type { Finding } from '../finding.js';
import type { VhdStructures } from './structures.js';
import { VhdFacts } from './vhd-facts.js';

export abstract class OpenVhd extends VhdFacts implements DiskImage {
  readonly virtualSize: number;
  abstract readonly blockSize: number | undefined;
  abstract readonly parentLink: ParentLink | undefined;

  constructor(structures: VhdStructures) {
    super(structures);
    this.virtualSize = structures.virtualSize;
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
