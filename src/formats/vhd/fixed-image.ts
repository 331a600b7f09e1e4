/**
 * A fixed VHD: the disk's bytes as they are, then the footer.
 *
 * Invariant: place on the disk = place in the file. Payload that a truncated file lacks is answered as
 * zeros, and only when the caller opened the image tolerantly.
 */
import { MiB } from '../../base/bytes.js';
import { type Extent, pushExtent } from '../../block/extent.js';
import type { ImageLayout } from '../disk-image.js';
import type { Finding } from '../finding.js';
import { assertInsideDisk } from '../image-reader.js';
import { checkFooterValues } from './check-footer.js';
import { judgeFixed, type VhdStructures } from './structures.js';
import { OpenVhd } from './vhd-image.js';

export class FixedVhd extends OpenVhd {
  readonly blockSize = undefined;
  readonly parentLink = undefined;
  readonly #structures: VhdStructures;

  /** @throws IMAGE_CORRUPT when the payload is not all there, unless tolerant */
  constructor(structures: VhdStructures) {
    judgeFixed(structures);
    super(structures);
    this.#structures = structures;
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    const extents: Extent[] = [];
    const stored = Math.max(0, Math.min(offset + length, this.#structures.limit) - offset);
    pushExtent(extents, { state: 'data', offset, length: stored, file: this.file, fileOffset: offset });
    pushExtent(extents, { state: 'zero', offset: offset + stored, length: length - stored });
    return extents;
  }

  async layout(): Promise<ImageLayout> {
    return { allocatedBlocks: 0, totalBlocks: 0, payloadAlignment: MiB, extents: 1 };
  }

  async check(): Promise<Finding[]> {
    return [...this.warnings, ...checkFooterValues(this.#structures)];
  }
}
