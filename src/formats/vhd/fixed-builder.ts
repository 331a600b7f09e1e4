/**
 * A new fixed VHD: payload at its own place, the footer behind it.
 *
 * Invariant: the footer is written only after the payload is durable, so that a file with a footer is
 * complete.
 */
import { MiB } from '../../base/bytes.js';
import type { Extent, PreparedWrite } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ImageLayout } from '../disk-image.js';
import { assertInsideDisk } from '../image-reader.js';
import { encodeFooter, type VhdFooter } from './footer.js';
import { VhdBuilder } from './vhd-builder.js';

export class FixedVhdBuilder extends VhdBuilder {
  readonly type = 'fixed';
  readonly blockSize = undefined;
  readonly #footer: Uint8Array;
  #sealed = false;

  constructor(file: RandomAccessFile, footer: VhdFooter) {
    super(file, footer);
    this.#footer = encodeFooter(footer);
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    if (length === 0) return [];
    return [{ state: 'data', offset, length, file: this.file, fileOffset: offset }];
  }

  async prepareWrite(offset: number, length: number): Promise<PreparedWrite> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    const places = length === 0 ? [] : [{ offset, length, file: this.file, fileOffset: offset }];
    return { places, commit: async () => {}, abort: async () => {} };
  }

  async flush(): Promise<void> {
    await this.file.flush();
    if (this.#sealed) return;
    await this.file.write(this.#footer, this.virtualSize);
    await this.file.flush();
    this.#sealed = true;
  }

  async layout(): Promise<ImageLayout> {
    return { allocatedBlocks: 0, totalBlocks: 0, payloadAlignment: MiB, extents: 1 };
  }
}
