/**
 * Writing into the blocks of a dynamic or differencing VHD, in the order that survives a crash.
 *
 * Invariants: new blocks go behind everything else and are named by the table only when their data and
 * bitmaps are durable; a bit in the bitmap of a block that is in the table is set only after its sector is
 * durable. Blocks of dynamic disks have every bit set and zeros where nothing was written, so that readers
 * that honour bitmaps and readers that do not see the same disk; in differencing disks exactly the sectors
 * that were written have their bits. What waits to be written is bounded: beyond that it is flushed.
 *
 * Nothing here takes turns; whoever calls sees to it that one change runs at a time.
 */
import { assert } from '../../base/assert.js';
import { type Place, pushPlace } from '../../block/extent.js';
import { UNALLOCATED } from './bat.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import { bitmapRuns, sectorsOf } from './sector-bitmap.js';
import type { SparseState } from './sparse-state.js';

/** Table entries, and places given up, that wait at most. */
const MAX_NOTES = 16 * 1024;
/** Entries looked at in one go. */
const ENTRIES_AT_A_TIME = 4096;
/** Bytes of bitmaps that wait at most. */
const MAX_BITMAPS = 8 * 1024 * 1024;

/** Sectors `[start, end)` of a block. */
interface BlockSectors {
  block: number;
  start: number;
  end: number;
}

interface NewBlock extends BlockSectors {
  dataOffset: number;
  /** Its bitmap has storage. */
  storage: Promise<void>;
}

interface TouchedBlock extends BlockSectors {
  bitmapOffset: number;
}

/** What a prepared write will have changed when it is committed. */
export interface Notes {
  fresh: NewBlock[];
  touched: TouchedBlock[];
}

export class BlockWriter {
  readonly #state: SparseState;
  /** Places given to writes that are not committed. */
  #lent = 0;
  /** Writes that are neither committed nor aborted. */
  #open = 0;

  constructor(state: SparseState) {
    this.#state = state;
  }

  /** Places for a range of whole sectors inside the disk. */
  async prepare(offset: number, length: number): Promise<{ places: Place[]; notes: Notes }> {
    await this.#state.begin();
    const places: Place[] = [];
    const notes: Notes = { fresh: [], touched: [] };
    try {
      for (const part of this.#parts(offset, length)) await this.#prepareBlock(part, places, notes);
    } catch (error) {
      await this.#giveBack(notes.fresh);
      throw error;
    }
    this.#lent += notes.fresh.length;
    this.#open += 1;
    return { places, notes };
  }

  /** A commit that fails is an abort. @throws NO_SPACE, IO_FAILED */
  async commit(notes: Notes): Promise<void> {
    try {
      for (const { storage } of notes.fresh) await storage;
    } catch (error) {
      await this.abort(notes).catch(() => undefined);
      throw error;
    }
    this.#close(notes);
    await this.#note(notes);
    await this.#flushWhenMuchWaits();
  }

  #close({ fresh }: Notes): void {
    this.#lent -= fresh.length;
    this.#open -= 1;
  }

  /** Before blocks or structures change their places: flushes, and nobody may be writing. */
  async quiesce(): Promise<void> {
    assert(this.#open === 0, 'structures are changed only while no write is prepared');
    await this.#state.begin();
    await this.flush();
  }

  async #note({ fresh, touched }: Notes): Promise<void> {
    const { table, bitmaps, space, type } = this.#state;
    const { bitmapBytes } = table.table;
    for (const { block, dataOffset, start, end } of fresh) {
      assert((await table.entry(block)) === UNALLOCATED, 'only one uncommitted write may be in a block');
      const bitmapOffset = dataOffset - bitmapBytes;
      bitmaps.start(block, bitmapOffset, type === 'dynamic');
      if (type === 'differencing') await bitmaps.mark(block, bitmapOffset, start, end, true);
      table.set(block, space.entryOf(dataOffset));
    }
    for (const { block, bitmapOffset, start, end } of touched) {
      await bitmaps.mark(block, bitmapOffset, start, end, true);
    }
  }

  async abort(notes: Notes): Promise<void> {
    const { fresh, touched } = notes;
    this.#close(notes);
    await this.#giveBack(fresh);
    for (const { block, bitmapOffset, start, end } of touched) {
      // Readers that ignore the bitmaps of dynamic disks would show what was put there.
      for (const run of await this.#runs(block, bitmapOffset, start, end)) {
        if (!run.present) await this.#zeroSectors(bitmapOffset, run.start, run.end);
      }
    }
  }

  /** See EditableImage.zero. */
  async zero(offset: number, length: number): Promise<void> {
    await this.#state.begin();
    for (const part of this.#parts(offset, length)) {
      if (this.#state.type === 'dynamic') await this.#zeroDynamic(part);
      else await this.#zeroDifferencing(part);
      await this.#flushWhenMuchWaits();
    }
  }

  /** See EditableImage.discard. */
  async discard(offset: number, length: number): Promise<number> {
    await this.#state.begin();
    let freed = 0;
    for await (const { part, entry } of this.#storedParts(offset, length)) {
      if (this.#isWhole(part)) freed += await this.#freeBlock(part.block, entry);
      else if (this.#state.type === 'differencing') freed += await this.#forgetSectors(part, entry);
      await this.#flushWhenMuchWaits();
    }
    return freed;
  }

  /** Gives up the blocks `[first, end)`, which are behind the end of the disk. */
  async drop(first: number, end: number): Promise<void> {
    for (let block = first; block < end; block += ENTRIES_AT_A_TIME) {
      const entries = await this.#state.table.entries(block, Math.min(ENTRIES_AT_A_TIME, end - block));
      for (const [index, entry] of entries.entries()) {
        if (entry !== UNALLOCATED) await this.#freeBlock(block + index, entry);
      }
      await this.#flushWhenMuchWaits();
    }
  }

  /** Makes everything committed durable: data, then what names it. */
  async flush(): Promise<void> {
    const { file, table, bitmaps, space, begun } = this.#state;
    if (!begun) return;
    await bitmaps.storeFresh();
    await file.flush();
    const lowered = await space.lowerFooter();
    if (table.waiting > 0 || bitmaps.changed || lowered !== undefined) {
      await bitmaps.storeChanged();
      await table.store();
      await file.flush();
    }
    bitmaps.settle();
    table.settle();
    if (lowered !== undefined) await space.cutTail(lowered);
    await space.settle();
    if (space.endIsFree && this.#lent === 0) await this.trimTail();
  }

  /** Cuts off free places at the end of the file. Nothing may wait to be written. */
  async trimTail(): Promise<void> {
    const { file, space } = this.#state;
    space.endAt(await this.#usedEnd());
    const lowered = await space.lowerFooter();
    if (lowered === undefined) return;
    await file.flush();
    await space.cutTail(lowered);
  }

  async #prepareBlock(part: BlockSectors, places: Place[], notes: Notes): Promise<void> {
    const { table, space, reader, file, virtualSize } = this.#state;
    const { blockSize, bitmapBytes } = table.table;
    const { block, start, end } = part;
    const entry = await table.entry(block);
    let dataOffset: number;
    if (entry === UNALLOCATED) {
      dataOffset = await space.take();
      notes.fresh.push({ ...part, dataOffset, storage: space.reserveBitmap(dataOffset) });
    } else {
      const place = reader.judgedPlace(block, entry);
      dataOffset = place.dataOffset;
      space.keep(block, 1);
      const runs = await this.#runs(block, place.bitmapOffset, start, end);
      if (runs.some(({ present }) => !present)) {
        notes.touched.push({ ...part, bitmapOffset: dataOffset - bitmapBytes });
      }
    }
    const offset = block * blockSize + start * SECTOR_BYTES;
    const length = Math.min(block * blockSize + end * SECTOR_BYTES, virtualSize) - offset;
    pushPlace(places, { offset, length, file, fileOffset: dataOffset + start * SECTOR_BYTES });
  }

  /** Stored sectors are zeroed where they are; whole blocks lose their places. */
  async #zeroDynamic(part: BlockSectors): Promise<void> {
    const entry = await this.#state.table.entry(part.block);
    if (entry === UNALLOCATED) return;
    if (this.#isWhole(part)) {
      await this.#freeBlock(part.block, entry);
      return;
    }
    const { bitmapOffset } = this.#state.reader.judgedPlace(part.block, entry);
    for (const run of await this.#runs(part.block, bitmapOffset, part.start, part.end)) {
      if (run.present) await this.#zeroSectors(bitmapOffset, run.start, run.end);
    }
  }

  /** Zeros are stored: without them the parent would show. */
  async #zeroDifferencing(part: BlockSectors): Promise<void> {
    const notes: Notes = { fresh: [], touched: [] };
    await this.#prepareBlock(part, [], notes);
    try {
      for (const { storage } of notes.fresh) await storage;
    } catch (error) {
      await this.#giveBack(notes.fresh);
      throw error;
    }
    if (notes.fresh.length === 0) {
      const { reader, table } = this.#state;
      const { bitmapOffset } = reader.judgedPlace(part.block, await table.entry(part.block));
      await this.#zeroSectors(bitmapOffset, part.start, part.end);
    }
    await this.#note(notes);
  }

  /** Bytes of storage that become free. */
  async #freeBlock(block: number, entry: number): Promise<number> {
    const { table, bitmaps, space, reader } = this.#state;
    const { bitmapOffset, dataOffset } = reader.judgedPlace(block, entry);
    space.keep(block, 1);
    bitmaps.forget(block, bitmapOffset);
    table.set(block, UNALLOCATED);
    space.retire(dataOffset);
    return table.table.blockSize + table.table.bitmapBytes;
  }

  async #forgetSectors(part: BlockSectors, entry: number): Promise<number> {
    const { bitmaps, reader, space, table } = this.#state;
    const { block, start, end } = part;
    const { bitmapOffset, dataOffset } = reader.judgedPlace(block, entry);
    const held = (await this.#runs(block, bitmapOffset, start, end)).filter(({ present }) => present);
    if (held.length === 0) return 0;
    await this.#state.dropBatmap();
    await bitmaps.mark(block, bitmapOffset, start, end, false);
    const [all] = await this.#runs(block, bitmapOffset, 0, sectorsOf(table.table.blockSize));
    if (all && !all.present && all.end === sectorsOf(table.table.blockSize)) {
      return this.#freeBlock(block, entry);
    }
    let freed = 0;
    for (const run of held) {
      const length = (run.end - run.start) * SECTOR_BYTES;
      space.free({ block, fileOffset: dataOffset + run.start * SECTOR_BYTES, length });
      freed += length;
    }
    return freed;
  }

  async #runs(block: number, bitmapOffset: number, start: number, end: number) {
    return [...bitmapRuns(await this.#state.bitmap(block, bitmapOffset), start, end)];
  }

  async #zeroSectors(bitmapOffset: number, start: number, end: number): Promise<void> {
    const { file, table, footers } = this.#state;
    const dataOffset = bitmapOffset + table.table.bitmapBytes;
    const from = dataOffset + start * SECTOR_BYTES;
    const to = Math.min(dataOffset + end * SECTOR_BYTES, footers.limit);
    if (to > from) await file.zero(from, to - from);
  }

  async #giveBack(fresh: readonly NewBlock[]): Promise<void> {
    for (const { dataOffset, storage } of fresh) {
      await storage.catch(() => undefined);
      await this.#state.space.giveBack(dataOffset);
    }
  }

  async #flushWhenMuchWaits(): Promise<void> {
    const { table, bitmaps, space } = this.#state;
    if (table.waiting > MAX_NOTES || space.waiting > MAX_NOTES || bitmaps.waiting > MAX_BITMAPS) {
      await this.flush();
    }
  }

  /** Where the last block or other structure ends. */
  async #usedEnd(): Promise<number> {
    const { rules, table } = this.#state;
    let last = -1;
    for await (const { entries } of this.#state.pages()) {
      for (const entry of entries) if (entry !== UNALLOCATED && entry > last) last = entry;
    }
    const { bitmapBytes, blockSize } = table.table;
    const end = last < 0 ? 0 : last * SECTOR_BYTES + bitmapBytes + blockSize;
    return Math.max(end, ...rules.metadata.map((range) => range.end));
  }

  /** True when the sectors are all that the disk has of the block. */
  #isWhole({ block, start, end }: BlockSectors): boolean {
    const { table, virtualSize } = this.#state;
    const { blockSize } = table.table;
    const used = Math.min(blockSize, virtualSize - block * blockSize);
    return start === 0 && end * SECTOR_BYTES >= used;
  }

  /** The blocks of a range that have a place, each with its entry. */
  async *#storedParts(offset: number, length: number): AsyncGenerator<{ part: BlockSectors; entry: number }> {
    const span = ENTRIES_AT_A_TIME * this.#state.table.table.blockSize;
    for (let at = offset; at < offset + length; ) {
      const next = Math.min(offset + length, (Math.floor(at / span) + 1) * span);
      const parts = [...this.#parts(at, next - at)];
      const entries = await this.#state.table.entries(parts[0]?.block ?? 0, parts.length);
      for (const [index, part] of parts.entries()) {
        const entry = entries[index] ?? UNALLOCATED;
        if (entry !== UNALLOCATED) yield { part, entry };
      }
      at = next;
    }
  }

  /** The range block by block. */
  *#parts(offset: number, length: number): Generator<BlockSectors> {
    const { blockSize } = this.#state.table.table;
    for (let at = offset; at < offset + length; ) {
      const block = Math.floor(at / blockSize);
      const base = block * blockSize;
      const next = Math.min(offset + length, base + blockSize);
      yield { block, start: (at - base) / SECTOR_BYTES, end: Math.ceil((next - base) / SECTOR_BYTES) };
      at = next;
    }
  }
}
