/**
 * A new VHDX while it is being filled.
 *
 * Invariant: an entry of the BAT names a block only after the block's bytes were committed, and the
 * headers, which make the file an image, are written by `flush` after everything they lead to is durable.
 * Memory is bounded: the BAT is paged, changed pages spill into the file, which nobody uses yet.
 *
 * Rewriting a part that is already committed happens in place (the file is not published).
 */
import { assert } from '../../base/assert.js';
import { MiB } from '../../base/bytes.js';
import { type Extent, type Place, type PreparedWrite, pushPlace } from '../../block/extent.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { DiskImage, ImageLayout, ImageType, SectorSize } from '../disk-image.js';
import type { Finding } from '../finding.js';
import { assertInsideDisk } from '../image-reader.js';
import {
  BAT_ENTRY_LENGTH,
  BLOCK_STATE,
  encodeEntry,
  entryOffsetMiB,
  entryState,
  payloadIndex,
} from './bat.js';
import { BlockMap } from './block-map.js';
import { checkImage } from './check.js';
import { vhdxCorrupt } from './defects.js';
import { encodeHeader } from './header.js';
import { HEADER_OFFSETS } from './layout.js';
import type { NewImagePlan } from './new-image.js';
import { readStructures } from './open.js';
import { PAGE_LENGTH, PageCache } from './page-cache.js';
import { OwnedRanges } from './region-table.js';

/** Blocks `[block, block + count)`, contiguous in the file from `fileOffset` on. */
interface BlockRun {
  block: number;
  count: number;
  fileOffset: number;
}

export class VhdxBuilder implements DiskImage {
  readonly format = 'vhdx';
  readonly type: ImageType;
  readonly file: RandomAccessFile;
  readonly virtualSize: number;
  readonly blockSize: number;
  readonly logicalSectorSize: SectorSize;
  readonly physicalSectorSize: SectorSize;
  readonly id: string;
  readonly linkId: string;
  readonly creator: string;
  readonly parentLink = undefined;
  readonly log = 'clean';
  readonly warnings: readonly Finding[] = [];
  readonly unwrittenIsZero = true;
  readonly #plan: NewImagePlan;
  readonly #pages: PageCache;
  readonly #map: BlockMap;
  /** End of the space given to blocks so far. */
  #end: number;
  /** Space of aborted writes, zeroed, to be used again. */
  #free: BlockRun[] = [];
  /** Blocks given out but not committed. */
  readonly #pending = new Set<BlockRun>();

  /** Use `createVhdx`. */
  constructor(file: RandomAccessFile, plan: NewImagePlan) {
    const { geometry } = plan;
    this.#plan = plan;
    this.type = plan.type;
    this.file = file;
    this.virtualSize = geometry.virtualSize;
    this.blockSize = geometry.blockSize;
    this.logicalSectorSize = plan.logicalSectorSize;
    this.physicalSectorSize = plan.physicalSectorSize;
    this.id = plan.virtualDiskId;
    this.linkId = plan.header.dataWriteGuid;
    this.creator = plan.creator;
    this.#end = plan.payloadOffset;
    this.#pages = new PageCache(file, 'the block allocation table');
    this.#map = new BlockMap({
      file,
      overlay: undefined,
      geometry,
      differencing: false,
      bat: plan.bat,
      occupied: new OwnedRanges([plan.log, plan.metadata, plan.bat]),
      batPages: this.#pages,
    });
  }

  /** Gives every block its place, in order (fixed images). The file is extended, not written. */
  async allocateAll(): Promise<void> {
    const { blocks } = this.#plan.geometry;
    await this.#assign({ block: 0, count: blocks, fileOffset: this.#end });
    this.#end += blocks * this.blockSize;
    await this.file.truncate(this.#end);
  }

  /**
   * Goes on from the table that an interrupted run left in the file. What lies behind the last block is
   * cut off: space given out from now on must read as zeros.
   * @throws IMAGE_CORRUPT
   */
  async takeUp(): Promise<void> {
    const { geometry, payloadOffset } = this.#plan;
    const fileSize = this.file.size();
    for (let block = 0; block < geometry.blocks; block += 1) {
      const place = await this.#placeOf(block);
      if (place === undefined) continue;
      if (place < payloadOffset || place >= fileSize) {
        const what = `block ${block} of the unfinished image is said to be at ${place}; its table entry is`;
        throw vhdxCorrupt('VHDX_BAT_ENTRY_OUTSIDE_FILE', what, this.file.path, this.#entryOffset(block));
      }
      this.#end = Math.max(this.#end, place + this.blockSize);
    }
    await this.file.truncate(this.#end);
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    return this.#map.locate(offset, length);
  }

  async prepareWrite(offset: number, length: number): Promise<PreparedWrite> {
    assertInsideDisk(this.virtualSize, offset, length, this.file.path);
    const places: Place[] = [];
    const fresh: BlockRun[] = [];
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / this.blockSize);
      const stop = Math.min((block + 1) * this.blockSize, end);
      const start = (await this.#placeOf(block)) ?? this.#allocate(block, fresh);
      const fileOffset = start + (at - block * this.blockSize);
      pushPlace(places, { offset: at, length: stop - at, file: this.file, fileOffset });
      at = stop;
    }
    if (fresh.length > 0 && this.file.size() < this.#end) await this.file.truncate(this.#end);
    for (const run of fresh) this.#pending.add(run);
    return { places, commit: () => this.#commit(fresh), abort: () => this.#abort(fresh) };
  }

  /** Data, then BAT, then headers, each durable before the next is written. */
  async flush(): Promise<void> {
    await this.file.flush();
    await this.#pages.writeBack();
    await this.file.flush();
    for (const [index, offset] of HEADER_OFFSETS.entries()) {
      const sequence = this.#plan.header.sequence + BigInt(index);
      await this.file.write(encodeHeader({ ...this.#plan.header, sequence }), offset);
      await this.file.flush();
    }
  }

  layout(): Promise<ImageLayout> {
    return this.#map.layout();
  }

  async check(): Promise<Finding[]> {
    await this.flush();
    return checkImage(await readStructures(this.file));
  }

  close(): Promise<void> {
    return this.file.close();
  }

  /** File offset of an allocated block; undefined when it has no place yet. */
  async #placeOf(block: number): Promise<number | undefined> {
    const entryOffset = this.#entryOffset(block);
    const at = entryOffset % PAGE_LENGTH;
    const page = this.#pages.cached(entryOffset - at) ?? (await this.#pages.load(entryOffset - at));
    const low = page.getUint32(at, true);
    if (entryState(low) !== BLOCK_STATE.fullyPresent) return undefined;
    return entryOffsetMiB(low, page.getUint32(at + 4, true)) * MiB;
  }

  #entryOffset(block: number): number {
    return this.#plan.bat.offset + payloadIndex(this.#plan.geometry, block) * BAT_ENTRY_LENGTH;
  }

  #allocate(block: number, fresh: BlockRun[]): number {
    for (const run of this.#pending) {
      const isHeld = block >= run.block && block < run.block + run.count;
      assert(!isHeld, `block ${block} already has a write that is not committed`);
    }
    const fileOffset = this.#takeSpace();
    const last = fresh.at(-1);
    const continues =
      last?.block === block - (last?.count ?? 0) &&
      last.fileOffset + last.count * this.blockSize === fileOffset;
    if (last && continues) last.count += 1;
    else fresh.push({ block, count: 1, fileOffset });
    return fileOffset;
  }

  #takeSpace(): number {
    const free = this.#free[0];
    if (!free) {
      this.#end += this.blockSize;
      return this.#end - this.blockSize;
    }
    const { fileOffset } = free;
    free.fileOffset += this.blockSize;
    free.count -= 1;
    if (free.count === 0) this.#free.shift();
    return fileOffset;
  }

  async #commit(fresh: readonly BlockRun[]): Promise<void> {
    for (const run of fresh) {
      if (!this.#pending.delete(run)) continue;
      await this.#assign(run);
    }
  }

  async #abort(fresh: readonly BlockRun[]): Promise<void> {
    for (const run of fresh) {
      if (!this.#pending.delete(run)) continue;
      // Bytes may have been put there already, and the next user of the space relies on zeros.
      await this.file.zero(run.fileOffset, run.count * this.blockSize);
      this.#free.push({ ...run });
    }
  }

  /** Writes the entries of a run of blocks, page by page. */
  async #assign(run: BlockRun): Promise<void> {
    const { geometry } = this.#plan;
    const blockMiB = this.blockSize / MiB;
    const end = run.block + run.count;
    for (let block = run.block; block < end; ) {
      const entryOffset = this.#entryOffset(block);
      const at = entryOffset % PAGE_LENGTH;
      const inChunk = geometry.chunkRatio - (block % geometry.chunkRatio);
      const count = Math.min(inChunk, (PAGE_LENGTH - at) / BAT_ENTRY_LENGTH, end - block);
      const firstMiB = run.fileOffset / MiB + (block - run.block) * blockMiB;
      await this.#pages.change(entryOffset - at, (page) => {
        for (let index = 0; index < count; index += 1) {
          const position = at + index * BAT_ENTRY_LENGTH;
          encodeEntry(page, position, BLOCK_STATE.fullyPresent, firstMiB + index * blockMiB);
        }
      });
      block += count;
    }
  }
}
