/**
 * What fixed and sparse VHDs that are open for writing have in common.
 *
 * Invariants: changes run one at a time, in the order in which they were asked for; ranges are judged before
 * anything is written.
 */
import { assert } from '../../base/assert.js';
import { VhdkitError } from '../../base/errors.js';
import { Turns } from '../../base/turns.js';
import type { Extent, Place, PreparedWrite } from '../../block/extent.js';
import type { ImageLayout, ParentLink } from '../disk-image.js';
import type { EditableImage, NewParentLink, ResizeOptions } from '../editable-image.js';
import type { Finding } from '../finding.js';
import { assertInsideDisk } from '../image-reader.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import { openVhd } from './open.js';
import { VhdFacts } from './vhd-facts.js';

export abstract class EditableVhd extends VhdFacts implements EditableImage {
  abstract readonly virtualSize: number;
  abstract readonly blockSize: number | undefined;
  abstract readonly parentLink: ParentLink | undefined;
  readonly #turns = new Turns();

  abstract locate(offset: number, length: number): Promise<Extent[]>;
  abstract layout(): Promise<ImageLayout>;

  async prepareWrite(offset: number, length: number): Promise<PreparedWrite> {
    this.#assertSectors(offset, length);
    return this.#turns.take(() => this.prepareRange(offset, length));
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#assertSectors(offset, length);
    await this.#turns.take(() => this.zeroRange(offset, length));
  }

  async discard(offset: number, length: number): Promise<number> {
    this.#assertSectors(offset, length);
    return this.#turns.take(() => this.discardRange(offset, length));
  }

  flush(): Promise<void> {
    return this.#turns.take(() => this.flushAll());
  }

  async resize(virtualSize: number, options: ResizeOptions = {}): Promise<void> {
    if (!Number.isSafeInteger(virtualSize) || virtualSize <= 0 || virtualSize % SECTOR_BYTES !== 0) {
      throw new VhdkitError('INVALID_ARGUMENT', `A VHD can't have ${virtualSize} bytes`, {
        operation: 'resize',
        context: { path: this.file.path },
        hint: 'Choose a multiple of 512 above 0; of 1M if the disk is to go to Azure.',
      });
    }
    await this.#turns.take(async () => {
      if (virtualSize !== this.virtualSize) await this.resizeTo(virtualSize, options);
    });
  }

  setParent(link: NewParentLink): Promise<void> {
    return this.#turns.take(() => this.linkTo(link));
  }

  /** Completes the image and examines it as a reader would. */
  async check(): Promise<Finding[]> {
    await this.flush();
    const image = await openVhd(this.file);
    return image.check();
  }

  async close(): Promise<void> {
    await this.#turns.take(() => this.file.close());
  }

  protected abstract prepareRange(offset: number, length: number): Promise<PreparedWrite>;
  protected abstract zeroRange(offset: number, length: number): Promise<void>;
  protected abstract discardRange(offset: number, length: number): Promise<number>;
  protected abstract flushAll(): Promise<void>;
  protected abstract resizeTo(virtualSize: number, options: ResizeOptions): Promise<void>;
  protected abstract linkTo(link: NewParentLink): Promise<void>;

  protected inTurn<T>(act: () => Promise<T>): Promise<T> {
    return this.#turns.take(act);
  }

  /** A prepared write that is committed or aborted once, in its turn. */
  protected preparedWrite(
    places: readonly Place[],
    commit: () => Promise<void>,
    abort: () => Promise<void>,
  ): PreparedWrite {
    let open = true;
    const once = (end: () => Promise<void>) => async () => {
      assert(open, 'a prepared write is committed or aborted once');
      open = false;
      await this.#turns.take(end);
    };
    return { places, commit: once(commit), abort: once(abort) };
  }

  /** @throws OUT_OF_RANGE, INVALID_ARGUMENT */
  #assertSectors(offset: number, length: number): void {
    const { path } = this.file;
    assertInsideDisk(this.virtualSize, offset, length, path);
    const toTheEnd = offset + length === this.virtualSize;
    if (offset % SECTOR_BYTES === 0 && (length % SECTOR_BYTES === 0 || toTheEnd)) return;
    throw new VhdkitError('INVALID_ARGUMENT', `${path}: only whole sectors of 512 bytes can be changed`, {
      operation: 'write',
      context: { path, offset, length },
      hint: 'Read the sectors at both ends first and write them whole.',
    });
  }
}
