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
import type { ByteRange, RandomAccessFile } from '../../io/random-access-file.js';
import type { ImageLayout, ImageType, ParentLink, SectorSize } from '../disk-image.js';
import type { GiveBackOptions, NewParentLink, ResizeOptions } from '../editable-image.js';
import type { Finding } from '../finding.js';
import { assertInsideDisk } from '../image-reader.js';
import type { RelocatableImage, StoredUnit } from '../relocatable-image.js';
import type { SpaceAllocator } from './allocator.js';
import { type BlockChange, BlockChanges, type BlockPiece } from './block-changes.js';
import { BlockMap } from './block-map.js';
import { BlockTable } from './block-table.js';
import { checkImage } from './check.js';
import { DirtyPages } from './dirty-pages.js';
import type { EditContext } from './edit-context.js';
import type { MetadataSink } from './edit-session.js';
import { assertDifferencing, updateLocator } from './locator-update.js';
import type { LogUpdate } from './log-codec.js';
import { MAX_UPDATES } from './log-writer.js';
import { occupiedRanges, readStructures, type VhdxStructures } from './open.js';
import {
  dropAnchor,
  PAYLOAD_ALIGNMENT,
  placeFrom,
  relocateUnit,
  storedUnits,
  structureRanges,
} from './relocate.js';
import { assertNewSize, resizeDisk } from './resize.js';
import { assertHasType, changeType } from './set-type.js';

/** Releases that wait for a flush are bounded too. */
const MAX_WAITING = 4096;

/** Makes the sink once the image is there to be told of a replay. */
export type SinkMaker = (onReplayed: () => void) => MetadataSink;

export class EditableVhdx implements RelocatableImage {
  readonly payloadAlignment = PAYLOAD_ALIGNMENT;
  readonly format = 'vhdx';
  readonly file: RandomAccessFile;
  readonly unwrittenIsZero = false;
  readonly #space: SpaceAllocator;
  readonly #sink: MetadataSink;
  readonly #pages: DirtyPages;
  readonly #context: EditContext;
  #structures: VhdxStructures;
  #map: BlockMap;
  #blocks: BlockChanges;
  #turn: Promise<unknown> = Promise.resolve();
  /** Why nothing can be changed any more. */
  #failure: unknown;

  /** Use `editVhdx` or `createVhdx`. */
  constructor(structures: VhdxStructures, space: SpaceAllocator, makeSink: SinkMaker) {
    this.file = structures.file;
    this.#structures = structures;
    this.#space = space;
    this.#sink = makeSink(() => this.#adopt({ overlay: undefined }));
    this.#pages = new DirtyPages(structures.overlay ?? structures.file, MAX_UPDATES, () => this.#writeAll());
    this.#map = this.#newMap();
    this.#blocks = this.#newBlocks();
    this.#context = this.#newContext();
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

  zero(offset: number, length: number, options: GiveBackOptions = {}): Promise<void> {
    return this.#alone(async () => {
      this.#assertSectors(offset, length);
      for await (const piece of this.#stored(offset, length, this.type !== 'differencing')) {
        if (!(await this.#blocks.canZero(piece))) continue;
        await this.#sink.begin(options.unchanged ? 'invisible' : 'visible');
        await this.#limitWaiting();
        await this.#blocks.zero(piece);
      }
    });
  }

  discard(offset: number, length: number, options: GiveBackOptions = {}): Promise<number> {
    return this.#alone(async () => {
      this.#assertSectors(offset, length);
      let freed = 0;
      for await (const piece of this.#stored(offset, length, true)) {
        if (!(await this.#blocks.canDiscard(piece))) continue;
        await this.#sink.begin(options.unchanged ? 'invisible' : 'visible');
        await this.#limitWaiting();
        freed += await this.#blocks.discard(piece);
      }
      return freed;
    });
  }

  flush(): Promise<void> {
    return this.#alone(() => this.#flush());
  }

  resize(virtualSize: number, options: ResizeOptions = {}): Promise<void> {
    return this.#alone(async () => {
      assertNewSize(this.#context, virtualSize);
      if (virtualSize === this.virtualSize) return;
      await this.#sink.begin('visible');
      await this.#whole(() => resizeDisk(this.#context, virtualSize, options));
    });
  }

  setParent(link: NewParentLink): Promise<void> {
    return this.#alone(async () => {
      assertDifferencing(this.#context);
      await this.#sink.begin('invisible');
      await this.#whole(() => updateLocator(this.#context, link));
    });
  }

  /**
   * Makes a dynamic image fixed (every block gets its place) or a fixed one dynamic (blocks keep their places
   * until they are zeroed). Durable when it returns. Does not count as a visible change.
   * @throws UNSUPPORTED (a differencing image), NO_SPACE, IO_FAILED
   */
  setType(type: 'fixed' | 'dynamic'): Promise<void> {
    return this.#alone(async () => {
      assertHasType(this.#context);
      if (type === this.type) return;
      await this.#sink.begin('invisible');
      await this.#whole(() => changeType(this.#context, type));
    });
  }

  units(): AsyncIterable<StoredUnit> {
    return storedUnits(this.#context);
  }

  immovable(): readonly ByteRange[] {
    return structureRanges(this.#context);
  }

  placeFrom(offset: number, alignment: number = PAYLOAD_ALIGNMENT.usual): number {
    return placeFrom(offset, alignment);
  }

  /** Nothing lies behind the last unit. */
  async makeRoom(): Promise<void> {
    await this.#alone(() => this.#sink.begin('invisible'));
  }

  relocate(id: number, fileOffset: number): Promise<void> {
    return this.#alone(() => relocateUnit(this.#context, id, fileOffset));
  }

  dropAnchor(id: number): Promise<void> {
    return this.#alone(async () => {
      await this.#sink.begin('invisible');
      await dropAnchor(this.#context, id);
    });
  }

  lengthFor(end: number): number {
    return end;
  }

  trim(): Promise<number> {
    return this.#alone(async () => {
      await this.#flush();
      return this.#sink.shorten();
    });
  }

  /** What was not flushed is lost; the log is marked as empty. */
  async close(): Promise<void> {
    await this.#inTurn(async () => {
      try {
        await this.#sink.close();
      } finally {
        await this.file.close();
      }
    });
  }

  #prepared(places: readonly Place[], changes: readonly BlockChange[]): PreparedWrite {
    let settled = false;
    const once = async (act: (change: BlockChange) => Promise<void> | void): Promise<void> => {
      if (settled) return;
      settled = true;
      for (const change of changes) await act(change);
    };
    const commit = async (change: BlockChange): Promise<void> => {
      try {
        await this.#blocks.commit(change);
      } catch (error) {
        // Nothing names the places of those that follow either: `settled` keeps them from being given back twice.
        for (const left of changes.slice(changes.indexOf(change))) this.#blocks.abort(left);
        throw error;
      }
    };
    return {
      places,
      commit: () => this.#alone(() => once(commit)),
      abort: () => this.#inTurn(() => once((change) => this.#blocks.abort(change))),
    };
  }

  async #flush(): Promise<void> {
    const hasWritten = await this.#write();
    await this.#sink.flush(hasWritten);
  }

  /** Makes changed pages durable together, then gives out again what they no longer name. */
  async #write(more: readonly LogUpdate[] = []): Promise<boolean> {
    if (this.#pages.changedSectors + more.length === 0) return false;
    await this.#sink.write([...this.#pages.updates(), ...more]);
    this.#pages.settle();
    await this.#space.settle();
    return true;
  }

  async #writeAll(more?: readonly LogUpdate[]): Promise<void> {
    await this.#write(more);
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

  /** The same, with runs of blocks that have no entry left out when that is wanted. */
  async *#stored(offset: number, length: number, skip: boolean): AsyncGenerator<BlockPiece> {
    const { blockSize } = this;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / blockSize);
      const next = skip ? await this.#blocks.nextUsed(block, Math.ceil(end / blockSize)) : block;
      const from = Math.max(at, next * blockSize);
      const stop = Math.min((next + 1) * blockSize, end);
      if (from < stop) yield* this.#pieces(from, stop - from);
      at = stop;
    }
  }

  /** What is now known of the file replaces what was: after a replay, a change of size or of parent. */
  #adopt(change: Partial<VhdxStructures>): void {
    this.#structures = { ...this.#structures, ...change };
    this.#pages.readFrom(this.#structures.overlay ?? this.file);
    this.#map = this.#newMap();
    this.#blocks = this.#newBlocks();
  }

  #newContext(): EditContext {
    const structures = (): VhdxStructures => this.#structures;
    const blocks = (): BlockChanges => this.#blocks;
    return {
      file: this.file,
      pages: this.#pages,
      space: this.#space,
      get blocks() {
        return blocks();
      },
      get structures() {
        return structures();
      },
      adopt: (change) => this.#adopt(change),
      write: (more) => this.#writeAll(more),
    };
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

  /**
   * A change that is more than its pages: after a failure half-way, what is in memory no longer goes with
   * what is or will be in the file, and only opening it again tells.
   */
  async #whole(act: () => Promise<void>): Promise<void> {
    await this.#write();
    try {
      await act();
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  /** One change at a time, and none after one that failed half-way. */
  #alone<T>(act: () => Promise<T>): Promise<T> {
    return this.#inTurn(() => {
      if (this.#failure === undefined) return act();
      const { path } = this.file;
      throw new VhdkitError(
        'IO_FAILED',
        `${path}: a change failed half-way; the image must be opened again`,
        {
          operation: 'change image',
          context: { path },
          cause: this.#failure,
        },
      );
    });
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(act);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}
