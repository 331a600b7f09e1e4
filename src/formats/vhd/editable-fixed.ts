/**
 * A fixed VHD, open for writing.
 *
 * Invariants: place on the disk = place in the file. The file ends with a valid footer at every instant, also
 * while the disk becomes larger or smaller; a disk shows its old size until its new part reads as zeros.
 */
import { MiB } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import { type Extent, type PreparedWrite, pushExtent } from '../../block/extent.js';
import type { ImageLayout } from '../disk-image.js';
import { assertInsideDisk } from '../image-reader.js';
import { EditableVhd } from './editable-vhd.js';
import { FOOTER_BYTES, FOOTER_FIELD, MAX_VIRTUAL_SIZE } from './footer.js';
import { FooterPair } from './footer-pair.js';
import { writeSize } from './footer-size.js';
import { judgeFixed, type VhdStructures } from './structures.js';

export class EditableFixedVhd extends EditableVhd {
  readonly blockSize = undefined;
  readonly parentLink = undefined;
  readonly #footers: FooterPair;
  #virtualSize: number;

  private constructor(structures: VhdStructures, footers: FooterPair) {
    super(structures);
    this.#footers = footers;
    this.#virtualSize = structures.virtualSize;
  }

  /** @throws IMAGE_CORRUPT, UNSUPPORTED, READ_ONLY, IO_FAILED */
  static async of(structures: VhdStructures): Promise<EditableFixedVhd> {
    judgeFixed(structures);
    return new EditableFixedVhd(structures, await FooterPair.of(structures));
  }

  get virtualSize(): number {
    return this.#virtualSize;
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    assertInsideDisk(this.#virtualSize, offset, length, this.file.path);
    const extents: Extent[] = [];
    pushExtent(extents, { state: 'data', offset, length, file: this.file, fileOffset: offset });
    return extents;
  }

  async layout(): Promise<ImageLayout> {
    return { allocatedBlocks: 0, totalBlocks: 0, payloadAlignment: MiB, extents: 1 };
  }

  protected async prepareRange(offset: number, length: number): Promise<PreparedWrite> {
    await this.#footers.mend(this.#footers.limit);
    const places = length === 0 ? [] : [{ offset, length, file: this.file, fileOffset: offset }];
    const done = async () => undefined;
    return this.preparedWrite(places, done, done);
  }

  protected async zeroRange(offset: number, length: number): Promise<void> {
    await this.#footers.mend(this.#footers.limit);
    await this.file.zero(offset, length);
  }

  /** A fixed disk keeps its storage. */
  protected async discardRange(): Promise<number> {
    return 0;
  }

  protected flushAll(): Promise<void> {
    return this.file.flush();
  }

  protected async linkTo(): Promise<void> {
    const { path } = this.file;
    throw new VhdkitError('UNSUPPORTED', `${path} is no differencing disk: it has no parent`, {
      operation: 'set parent',
      context: { path },
    });
  }

  protected async resizeTo(virtualSize: number): Promise<void> {
    const { path, kind } = this.file;
    if (kind === 'device' || this.#footers.limit % FOOTER_BYTES !== 0) {
      const what = kind === 'device' ? 'is on a device' : 'has a size that is not a multiple of 512';
      throw new VhdkitError('UNSUPPORTED', `${path} ${what}: its size can't be changed`, {
        operation: 'resize',
        context: { path, offset: FOOTER_FIELD.currentSize },
        hint: 'Convert it into a file of its own.',
      });
    }
    if (virtualSize > MAX_VIRTUAL_SIZE) {
      throw new VhdkitError('TARGET_TOO_SMALL', `${path}: a fixed VHD ends at 64 TiB`, {
        operation: 'resize',
        context: { path },
      });
    }
    await this.#footers.mend(this.#footers.limit);
    if (virtualSize > this.#virtualSize) await this.#grow(virtualSize);
    else await this.#footers.change(writeSize(virtualSize));
    this.#virtualSize = virtualSize;
    if (this.#footers.limit > virtualSize) {
      await this.#footers.lower(virtualSize);
      await this.file.flush();
      await this.#footers.cut(virtualSize);
      await this.file.flush();
    }
  }

  /** The footer goes to the new end first, with the old size: what lies between can then be zeroed. */
  async #grow(virtualSize: number): Promise<void> {
    const old = this.#footers.limit;
    if (virtualSize > old) {
      await this.#footers.moveTo(virtualSize);
      await this.file.zero(this.#virtualSize, old + FOOTER_BYTES - this.#virtualSize);
    } else await this.file.zero(this.#virtualSize, virtualSize - this.#virtualSize);
    await this.file.flush();
    await this.#footers.change(writeSize(virtualSize));
  }
}
