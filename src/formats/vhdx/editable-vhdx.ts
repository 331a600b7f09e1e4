/**
 * A VHDX that is being changed: fixed, dynamic or differencing.
 *
 * Invariants (MS-VHDX 2.5, 2.9): a block's entry (and its sector bits) name bytes only after `commit`, and reach
 * the file only after those bytes are durable; entry and bits of a block are never torn apart. Space that is
 * given out reads as zeros unless the caller fills all of it. Blocks that read as zeros have no place (state
 * 2, offset 0), except in fixed images, which keep every place they have.
 *
 * Calls that change something run one after the other. Not here: the order of writing (edit-session.ts), what
 * zeroing and discarding do to one block (block-changes.ts), sizes (resize.ts), parents (locator-update.ts).
 */
import { VhdkitError } from '../../base/errors.js';
import { type Extent, type Place, type PreparedWrite, pushPlace } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ImageLayout, ImageType, ParentLink, SectorSize } from '../disk-image.js';
import type { EditableImage, NewParentLink, ResizeOptions } from '../editable-image.js';
import type { Finding } from '../finding.js';
import { assertInsideDisk } from '../image-reader.js';
import type { SpaceAllocator } from './allocator.js';
import { type BlockChange, BlockChanges, type BlockPiece } from './block-changes.js';
import { BlockMap } from './block-map.js';
import { BlockTable } from './block-table.js';
import { checkImage } from './check.js';
import { DirtyPages } from './dirty-pages.js';
import type { MetadataSink } from './edit-session.js';
import { MAX_UPDATES } from './log-writer.js';
import { occupiedRanges, readStructures, type VhdxStructures } from './open.js';

/** Releases that wait for a flush are bounded too. */
const MAX_WAITING = 4096;

/** Makes the sink once the image is there to be told of a replay. */
export type SinkMaker = (onReplayed: () => void) => MetadataSink;

export class EditableVhdx implements EditableImage {
  readonly format = 'vhdx';
  readonly file: RandomAccessFile;
  readonly unwrittenIsZero = false;
  readonly #space: SpaceAllocator;
  readonly #sink: MetadataSink;
  readonly #pages: DirtyPages;
  #structures: VhdxStructures;
  #map: BlockMap;
  #blocks: BlockChanges;
  #turn: Promise<unknown> = Promise.resolve();

  /** Use `editVhdx` or `createVhdx`. */
  constructor(structures: VhdxStructures, space: SpaceAllocator, makeSink: SinkMaker) {
    this.file = structures.file;
    this.#structures = structures;
    this.#space = space;
    this.#sink = makeSink(() => this.#adopt({ ...this.#structures, overlay: undefined }));
    this.#pages = new DirtyPages(structures.overlay ?? structures.file, MAX_UPDATES, () => this.#write());
    this.#map = this.#newMap();
    this.#blocks = this.#newBlocks();
  }

  get type(): ImageType {
    return this.#structures.type;
  }
  get virtualSize(): number {
    return this.#structures.metadata.virtualSize;
  }
  get blockSize(): number {
    return this.#structures.metadata.blockSize;
  }
  get logicalSectorSize(): SectorSize {
    return this.#structures.metadata.logicalSectorSize;
  }
  get physicalSectorSize(): SectorSize {
    return this.#structures.metadata.physicalSectorSize;
  }
  get id(): string | undefined {
    return this.#structures.metadata.virtualDiskId;
  }
  get linkId(): string {
    return this.#sink.dataWriteGuid;
  }
  get creator(): string {
    return this.#structures.creator;
  }
  get parentLink(): ParentLink | undefined {
    return this.#structures.parentLink;
  }
  get log(): 'clean' | 'dirty' {
    return this.#structures.overlay ? 'dirty' : 'clean';
  }
  get warnings(): readonly Finding[] {
    return this.#structures.warnings;
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    return this.#map.locate(offset, length);
  }

  layout(): Promise<ImageLayout> {
    return this.#map.layout();
  }

  async check(): Promise<Finding[]> {
    await this.flush();
    return checkImage(await readStructures(this.file));
  }

  prepareWrite(offset: number, length: number): Promise<PreparedWrite> {
    return this.#alone(async () => {
      this.#assertSectors(offset, length);
      await this.#sink.begin('visible');
      const places: Place[] = [];
      const changes: BlockChange[] = [];
      try {
        for (const piece of this.#pieces(offset, length)) {
          const change = await this.#blocks.prepare(piece);
          if (change.needsCommit) changes.push(change);
          const fileOffset = change.place + piece.within;
          pushPlace(places, { offset: piece.offset, length: piece.length, file: this.file, fileOffset });
        }
      } catch (error) {
        for (const change of changes) this.#blocks.abort(change);
        throw error;
      }
      return this.#prepared(places, changes);
    });
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#alone(async () => {
      this.#assertSectors(offset, length);
      for (const piece of this.#pieces(offset, length)) {
        if (!(await this.#blocks.canZero(piece))) continue;
        await this.#sink.begin('visible');
        await this.#limitWaiting();
        await this.#blocks.zero(piece);
      }
    });
  }

  discard(offset: number, length: number): Promise<number> {
    return this.#alone(async () => {
      this.#assertSectors(offset, length);
      let freed = 0;
      for (const piece of this.#pieces(offset, length)) {
        if (!(await this.#blocks.canDiscard(piece))) continue;
        await this.#sink.begin('visible');
        await this.#limitWaiting();
        freed += await this.#blocks.discard(piece);
      }
      return freed;
    });
  }

  flush(): Promise<void> {
    return this.#alone(() => this.#flush());
  }

  async resize(_virtualSize: number, _options: ResizeOptions = {}): Promise<void> {
    throw new VhdkitError('UNSUPPORTED', `${this.file.path}: resizing a VHDX is not supported yet`);
  }

  async setParent(_link: NewParentLink): Promise<void> {
    throw new VhdkitError('UNSUPPORTED', `${this.file.path}: changing a VHDX's parent is not supported yet`);
  }

  /** What was not flushed is lost; the log is marked as empty. */
  async close(): Promise<void> {
    await this.#alone(async () => {
      try {
        await this.#sink.close();
      } finally {
        await this.file.close();
      }
    });
  }

  #prepared(places: readonly Place[], changes: readonly BlockChange[]): PreparedWrite {
    let settled = false;
    const once = (act: (change: BlockChange) => Promise<void> | void): Promise<void> =>
      this.#alone(async () => {
        if (settled) return;
        settled = true;
        for (const change of changes) await act(change);
      });
    return {
      places,
      commit: () => once((change) => this.#blocks.commit(change)),
      abort: () => once((change) => this.#blocks.abort(change)),
    };
  }

  async #flush(): Promise<void> {
    await this.#write();
    await this.#sink.flush();
  }

  /** Makes changed pages durable together, then gives out again what they no longer name. */
  async #write(): Promise<void> {
    if (this.#pages.changedSectors === 0) return;
    await this.#sink.write(this.#pages.updates());
    this.#pages.settle();
    for (const { offset, length } of this.#space.settle()) {
      // Only a service to the storage: what is claimed again is zeroed then.
      const end = Math.min(offset + length, this.file.size());
      if (end > offset) await this.file.zero(offset, end - offset);
    }
  }

  async #limitWaiting(): Promise<void> {
    if (this.#space.waiting >= MAX_WAITING) await this.#write();
  }

  /** The parts of a range, block by block. */
  *#pieces(offset: number, length: number): Generator<BlockPiece> {
    const { blockSize, virtualSize } = this;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / blockSize);
      const start = block * blockSize;
      const stop = Math.min(start + blockSize, end);
      const isWhole = at === start && (stop === start + blockSize || stop === virtualSize);
      yield { block, offset: at, within: at - start, length: stop - at, isWhole };
      at = stop;
    }
  }

  /** What is now known of the file replaces what was: after a replay, a change of size or of parent. */
  #adopt(structures: VhdxStructures): void {
    this.#structures = structures;
    this.#pages.readFrom(structures.overlay ?? structures.file);
    this.#map = this.#newMap();
    this.#blocks = this.#newBlocks();
  }

  #newMap(): BlockMap {
    const { file, overlay, geometry, metadata, regions } = this.#structures;
    return new BlockMap({
      file,
      overlay,
      geometry,
      differencing: metadata.hasParent,
      bat: regions.bat,
      occupied: occupiedRanges(this.#structures),
      batPages: this.#pages,
      bitmapPages: this.#pages,
    });
  }

  #newBlocks(): BlockChanges {
    const { file, geometry, regions, type } = this.#structures;
    const table = new BlockTable(this.#pages, geometry, regions.bat.offset);
    return new BlockChanges({ file, geometry, type, table, pages: this.#pages, space: this.#space });
  }

  #assertSectors(offset: number, length: number): void {
    const { path } = this.file;
    assertInsideDisk(this.virtualSize, offset, length, path);
    const sector = this.logicalSectorSize;
    if (offset % sector === 0 && length % sector === 0) return;
    throw new VhdkitError(
      'INVALID_ARGUMENT',
      `${path}: the range is not made of whole sectors of ${sector}`,
      {
        operation: 'change image',
        context: { path, offset, length },
        hint: `Ask for multiples of ${sector} bytes.`,
      },
    );
  }

  #alone<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(act);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}
