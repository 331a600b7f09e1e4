/**
 * A dynamic or differencing VHD, open for writing.
 *
 * Invariant: each change leaves the order of writes to the part that knows it: blocks (block-writer.ts),
 * header (header-update.ts), size (resize-sparse.ts). All share one state.
 */
import type { Extent, PreparedWrite } from '../../block/extent.js';
import type { ByteRange } from '../../io/random-access-file.js';
import type { ImageLayout, ParentLink } from '../disk-image.js';
import type { NewParentLink, ResizeOptions } from '../editable-image.js';
import type { RelocatableImage, StoredUnit } from '../relocatable-image.js';
import { BlockWriter } from './block-writer.js';
import { EditableVhd } from './editable-vhd.js';
import { setParentLink } from './parent-update.js';
import { PAYLOAD_ALIGNMENT, placeFrom, relocateBlock, storedBlocks, structureRanges } from './relocate.js';
import { resizeSparse } from './resize-sparse.js';
import { SparseState } from './sparse-state.js';
import type { SparseStructures } from './structures.js';

export class EditableSparseVhd extends EditableVhd implements RelocatableImage {
  readonly payloadAlignment = PAYLOAD_ALIGNMENT;
  readonly #state: SparseState;
  readonly #writer: BlockWriter;
  #parentLink: ParentLink | undefined;

  private constructor(structures: SparseStructures, state: SparseState) {
    super(structures);
    this.#state = state;
    this.#writer = new BlockWriter(state);
    this.#parentLink = structures.parentLink;
  }

  /** @throws IMAGE_CORRUPT, UNSUPPORTED, READ_ONLY, IO_FAILED */
  static async of(structures: SparseStructures): Promise<EditableSparseVhd> {
    return new EditableSparseVhd(structures, await SparseState.of(structures));
  }

  get virtualSize(): number {
    return this.#state.virtualSize;
  }

  get blockSize(): number {
    return this.#state.table.table.blockSize;
  }

  get parentLink(): ParentLink | undefined {
    return this.#parentLink;
  }

  locate(offset: number, length: number): Promise<Extent[]> {
    return this.#state.reader.locate(offset, length);
  }

  layout(): Promise<ImageLayout> {
    return this.#state.reader.layout();
  }

  units(): AsyncIterable<StoredUnit> {
    return storedBlocks(this.#state);
  }

  immovable(): readonly ByteRange[] {
    return structureRanges(this.#state);
  }

  placeFrom(offset: number, alignment: number = PAYLOAD_ALIGNMENT.usual): number {
    return placeFrom(this.#state, offset, alignment);
  }

  makeRoom(end: number): Promise<void> {
    return this.inTurn(async () => {
      await this.#writer.quiesce();
      await this.#state.space.reach(end);
    });
  }

  relocate(id: number, fileOffset: number): Promise<void> {
    return this.inTurn(() => relocateBlock(this.#state, id, fileOffset));
  }

  /** A VHD has no anchors. */
  async dropAnchor(): Promise<void> {}

  lengthFor(end: number): number {
    return this.#state.space.lengthFor(end);
  }

  trim(): Promise<number> {
    return this.inTurn(async () => {
      const before = this.file.size();
      await this.#writer.quiesce();
      await this.#writer.trimTail();
      await this.file.flush();
      return before - this.file.size();
    });
  }

  protected async prepareRange(offset: number, length: number): Promise<PreparedWrite> {
    const { places, notes } = await this.#writer.prepare(offset, length);
    return this.preparedWrite(
      places,
      () => this.#writer.commit(notes),
      () => this.#writer.abort(notes),
    );
  }

  protected zeroRange(offset: number, length: number): Promise<void> {
    return this.#writer.zero(offset, length);
  }

  protected discardRange(offset: number, length: number): Promise<number> {
    return this.#writer.discard(offset, length);
  }

  protected flushAll(): Promise<void> {
    return this.#writer.flush();
  }

  protected resizeTo(virtualSize: number, options: ResizeOptions): Promise<void> {
    return resizeSparse(this.#state, this.#writer, virtualSize, options);
  }

  protected async linkTo(link: NewParentLink): Promise<void> {
    this.#parentLink = await setParentLink(this.#state, this.#writer, link);
  }
}
