/**
 * What new fixed and dynamic VHDs have in common while they are being filled.
 *
 * Invariant: the image becomes valid with `flush` and stays valid with every later one. Unwritten parts
 * read as zeros, because the file is new and sparse.
 */
import { guidFromBytes } from '../../base/guid.js';
import type { Extent, PreparedWrite } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { DiskImage, ImageLayout, ImageType } from '../disk-image.js';
import type { Finding } from '../finding.js';
import type { VhdFooter } from './footer.js';
import { openVhd } from './open.js';
import { creatorName } from './vhd-facts.js';

export abstract class VhdBuilder implements DiskImage {
  readonly format = 'vhd';
  abstract readonly type: ImageType;
  readonly file: RandomAccessFile;
  readonly virtualSize: number;
  abstract readonly blockSize: number | undefined;
  readonly logicalSectorSize = 512;
  readonly physicalSectorSize = 512;
  readonly id: string;
  readonly linkId: string;
  readonly creator: string | undefined;
  readonly parentLink = undefined;
  readonly log = 'none';
  readonly warnings: readonly Finding[];
  readonly unwrittenIsZero = true;

  constructor(file: RandomAccessFile, footer: VhdFooter, warnings: readonly Finding[] = []) {
    this.file = file;
    this.warnings = warnings;
    this.virtualSize = Number(footer.currentSize);
    this.id = guidFromBytes(footer.uniqueId);
    this.linkId = this.id;
    this.creator = creatorName(footer.creatorApplication);
  }

  abstract locate(offset: number, length: number): Promise<Extent[]>;
  abstract prepareWrite(offset: number, length: number): Promise<PreparedWrite>;
  abstract flush(): Promise<void>;
  abstract layout(): Promise<ImageLayout>;

  /** Completes the image and examines it as a reader would. */
  async check(): Promise<Finding[]> {
    await this.flush();
    const image = await openVhd(this.file);
    return image.check();
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
