/**
 * The footers of an existing VHD while it is changed: the one at the end, and in dynamic and differencing
 * disks the copy at the beginning.
 *
 * Invariants: the file ends with a valid footer at every instant, or its copy is valid; the two are never
 * written without a flush between. Reserved bytes stay as they are: some writers keep data there.
 *
 * Not here: what may lie before the footer (block-space.ts).
 */
import { VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { sealChecksum } from './checksum.js';
import { vhdError } from './defects.js';
import { FOOTER_BYTES, FOOTER_FIELD } from './footer.js';
import type { VhdStructures } from './structures.js';

/** Whether the footer at the end is there: whole, one byte short, or not at all. */
type EndState = 'whole' | 'short' | 'missing';

export class FooterPair {
  readonly #file: RandomAccessFile;
  readonly #hasCopy: boolean;
  #bytes: Uint8Array;
  #end: EndState;
  #copyFine: boolean;
  #at: number;

  private constructor(structures: VhdStructures, bytes: Uint8Array, copyFine: boolean) {
    const { where } = structures.copy;
    this.#file = structures.file;
    this.#hasCopy = structures.type !== 'fixed';
    this.#bytes = bytes;
    this.#copyFine = copyFine;
    this.#end = where === 'start' ? 'missing' : where === 'end' ? 'whole' : 'short';
    this.#at = structures.limit;
  }

  /**
   * @throws IMAGE_CORRUPT (wrong checksum), UNSUPPORTED (saved state), READ_ONLY
   */
  static async of(structures: VhdStructures): Promise<FooterPair> {
    const { file, copy, footer } = structures;
    const { path } = file;
    if (!file.writable) {
      throw new VhdkitError('READ_ONLY', `${path} is open for reading only`, { context: { path } });
    }
    if (!copy.checksumOk) {
      const offset = copy.offset + FOOTER_FIELD.checksum;
      const message = 'the checksum of the footer is wrong';
      throw vhdError('IMAGE_CORRUPT', 'VHD_FOOTER_CHECKSUM', message, { path, offset });
    }
    if (footer.savedState !== 0) {
      const message = 'the virtual machine of this disk was saved, not shut down';
      throw vhdError('UNSUPPORTED', 'VHD_SAVED_STATE', message, {
        path,
        offset: copy.offset + FOOTER_FIELD.savedState,
        hint: 'Start the machine and shut it down, or discard its saved state; then change the disk.',
      });
    }
    const bytes = new Uint8Array(FOOTER_BYTES);
    await file.read(bytes, copy.offset);
    const front = new Uint8Array(FOOTER_BYTES);
    if (structures.type !== 'fixed') await file.read(front, 0);
    return new FooterPair(structures, bytes, Buffer.compare(bytes, front) === 0);
  }

  /** Where what is before the footer ends: the footer, or the file's length where there is none. */
  get limit(): number {
    return this.#at;
  }

  /** False while the file ends without a footer. */
  get complete(): boolean {
    return this.#end !== 'missing';
  }

  /** The 512 bytes as they are stored. Not to be changed. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /**
   * Makes both footers whole and equal, before anything else is changed.
   * @param at where the footer goes if there is none at the end
   */
  async mend(at: number): Promise<void> {
    if (this.#end === 'short') {
      await this.#file.write(new Uint8Array(1), this.#at + FOOTER_BYTES - 1);
      await this.#file.flush();
      this.#end = 'whole';
    } else if (this.#end === 'missing') await this.moveTo(at);
    if (this.#copyFine || !this.#hasCopy) return;
    await this.#file.write(this.#bytes, 0);
    await this.#file.flush();
    this.#copyFine = true;
  }

  /** Writes the footer at a place further up, which becomes the file's end, and flushes. */
  async moveTo(at: number): Promise<void> {
    await this.#file.write(this.#bytes, at);
    await this.#file.flush();
    this.#at = at;
    this.#end = 'whole';
  }

  /**
   * Writes the footer at a place further down. The file is to be flushed and then cut off behind it
   * (`cut`); until then it still ends with the footer where it was.
   */
  async lower(at: number): Promise<void> {
    await this.#file.write(this.#bytes, at);
  }

  /** Ends the file with the footer that `lower` wrote. */
  async cut(at: number): Promise<void> {
    await this.#file.truncate(at + FOOTER_BYTES);
    this.#at = at;
  }

  /** Changes fields of both footers, one after the other. `edit` gets the bytes; the checksum follows. */
  async change(edit: (view: DataView, bytes: Uint8Array) => void): Promise<void> {
    const bytes = Uint8Array.from(this.#bytes);
    edit(new DataView(bytes.buffer), bytes);
    sealChecksum(bytes, FOOTER_FIELD.checksum);
    await this.#file.write(bytes, this.#at);
    await this.#file.flush();
    this.#bytes = bytes;
    if (!this.#hasCopy) return;
    this.#copyFine = false;
    await this.#file.write(bytes, 0);
    await this.#file.flush();
    this.#copyFine = true;
  }
}
