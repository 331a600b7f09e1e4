/**
 * The look-up table of two volumes that share a base image: which blocks the preserved volume has in the
 * copy-on-write image; all others it has in the base.
 *
 * Invariants: an entry is durable before `add` returns, and it is never durable before the data it names
 * (the caller flushes that first). A removed entry may still be there after a crash until `settle` has made
 * its absence durable, which is done only after the base image was flushed.
 *
 * File format (ours, little-endian), in sectors of 512 bytes, each of which storage writes whole:
 * sector 0: magic `vhdkitLT`, u32 version 1 @8, u32 block size @12, u64 disk size @16, u8 broken @24 (0 no, 1 a
 * block could not be kept, 2 the image was changed by something else), u32 CRC-32C of the first 508 bytes @508.
 * Sector 1 + n: bits of the blocks from 4032 × n on, lowest bit first, @0..503, u32 n @504, u32 CRC-32C @508. A
 * sector that was never written is all zeros and stands for no entries.
 */
import { assert } from '../../base/assert.js';
import { isPowerOfTwo } from '../../base/bytes.js';
import { crc32c } from '../../base/crc32c.js';
import { VhdkitError } from '../../base/errors.js';
import { Turns } from '../../base/turns.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';

const SECTOR = 512;
const BIT_BYTES = 504;
const BLOCKS_PER_SECTOR = BIT_BYTES * 8;
const CRC_AT = 508;
const MAGIC = 'vhdkitLT';
const VERSION = 1;
/** 32 MiB of bits: 16 TiB in blocks of 64 KiB. */
const MAX_BLOCKS = 2 ** 28;
const MIN_BLOCK = 4096;
const MAX_BLOCK = 16 * 1024 * 1024;

export interface TableShape {
  /** Of the disk, bytes. */
  size: number;
  /** Bytes, a power of two from 4 KiB to 16 MiB. */
  blockSize: number;
}

function damaged(file: RandomAccessFile, offset: number, what: string): VhdkitError {
  return new VhdkitError('IMAGE_CORRUPT', `${file.path}: ${what}`, {
    operation: 'read look-up table',
    context: { path: file.path, offset, defect: 'LOOKUP_TABLE_DAMAGED' },
    hint: 'The image itself is whole. Give the preserved volume up: vhdkit snapshot delete IMAGE VOLUME.',
  });
}

/** Why a preserved volume is of no use any more; the place is the byte in the file. */
const REASONS = [undefined, 'copy-failed', 'image-changed'] as const;

export type VolumeBreakReason = NonNullable<(typeof REASONS)[number]>;

function isSound({ size, blockSize }: TableShape): boolean {
  const inBounds = isPowerOfTwo(blockSize) && blockSize >= MIN_BLOCK && blockSize <= MAX_BLOCK;
  return inBounds && size / blockSize <= MAX_BLOCKS;
}

/** @throws INVALID_ARGUMENT where there is no table of this shape */
export function assertTableShape(shape: TableShape): void {
  const { size, blockSize } = shape;
  if (isSound(shape)) return;
  throw new VhdkitError(
    'INVALID_ARGUMENT',
    `A preserved volume of ${size} bytes can't be kept in chunks of ${blockSize}`,
    {
      operation: 'create volume',
      context: { size, blockSize },
      hint: 'Chunks have 4 KiB to 16 MiB, a power of two; larger disks need larger ones.',
    },
  );
}

function sealed(sector: Uint8Array): Uint8Array {
  new DataView(sector.buffer, sector.byteOffset).setUint32(CRC_AT, crc32c(sector.subarray(0, CRC_AT)), true);
  return sector;
}

function isSealed(sector: Uint8Array): boolean {
  const stored = new DataView(sector.buffer, sector.byteOffset).getUint32(CRC_AT, true);
  return stored === crc32c(sector.subarray(0, CRC_AT));
}

function header({ size, blockSize }: TableShape, broken: VolumeBreakReason | undefined): Uint8Array {
  const sector = new Uint8Array(SECTOR);
  const view = new DataView(sector.buffer);
  sector.set(new TextEncoder().encode(MAGIC));
  view.setUint32(8, VERSION, true);
  view.setUint32(12, blockSize, true);
  view.setBigUint64(16, BigInt(size), true);
  sector[24] = REASONS.indexOf(broken);
  return sealed(sector);
}

/** Does something with a file that belongs to whoever does it: a failure closes it. */
async function owning<T>(file: RandomAccessFile, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await file.close();
    throw error;
  }
}

export class LookupTable {
  readonly shape: TableShape;
  readonly blocks: number;
  readonly #file: RandomAccessFile;
  /** What holds. */
  readonly #bits: Uint8Array;
  /** What the file says: may have entries that were removed and not settled. */
  readonly #stored: Uint8Array;
  /** Removed and not settled: the block, and which removal it was. */
  readonly #removed = new Map<number, number>();
  #removals = 0;
  #broken: VolumeBreakReason | undefined;
  #count = 0;
  /** Changes of the file follow each other. */
  readonly #turns = new Turns();

  private constructor(file: RandomAccessFile, shape: TableShape, broken?: VolumeBreakReason) {
    this.#file = file;
    this.shape = shape;
    this.blocks = Math.ceil(shape.size / shape.blockSize);
    const sectors = Math.ceil(this.blocks / BLOCKS_PER_SECTOR);
    this.#bits = new Uint8Array(sectors * BIT_BYTES);
    this.#stored = new Uint8Array(sectors * BIT_BYTES);
    this.#broken = broken;
  }

  /**
   * An empty table in an empty file, which belongs to it from now on. Durable when it returns.
   * @throws INVALID_ARGUMENT, NO_SPACE, IO_FAILED; then the file is closed
   */
  static create(file: RandomAccessFile, shape: TableShape): Promise<LookupTable> {
    return owning(file, async () => {
      assert(file.size() === 0, 'a look-up table is made in an empty file');
      assertTableShape(shape);
      const table = new LookupTable(file, shape);
      await file.write(header(shape, undefined), 0);
      await file.flush();
      return table;
    });
  }

  /** The file belongs to it from now on. @throws IMAGE_CORRUPT, IO_FAILED; then the file is closed */
  static open(file: RandomAccessFile): Promise<LookupTable> {
    return owning(file, () => LookupTable.#read(file));
  }

  static async #read(file: RandomAccessFile): Promise<LookupTable> {
    const sector = new Uint8Array(SECTOR);
    const count = await file.read(sector, 0);
    const view = new DataView(sector.buffer);
    const magic = Buffer.from(sector.subarray(0, 8)).toString('latin1');
    if (count < SECTOR || magic !== MAGIC || !isSealed(sector)) throw damaged(file, 0, 'no look-up table');
    if (view.getUint32(8, true) !== VERSION) throw damaged(file, 8, 'a look-up table of another version');
    const size = view.getBigUint64(16, true);
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged(file, 16, 'the size is out of bounds');
    const shape = { size: Number(size), blockSize: view.getUint32(12, true) };
    if (!isSound(shape)) throw damaged(file, 12, 'the size of blocks is out of bounds');
    const broken = sector[24] ?? 0;
    if (broken >= REASONS.length) throw damaged(file, 24, 'the look-up table is broken in an unknown way');
    const table = new LookupTable(file, shape, REASONS[broken]);
    await table.#load();
    return table;
  }

  /** Entries. */
  get count(): number {
    return this.#count;
  }

  /** Why the preserved volume was given up; undefined: it was not. */
  get broken(): VolumeBreakReason | undefined {
    return this.#broken;
  }

  has(block: number): boolean {
    return ((this.#bits[block >>> 3] as number) & (1 << (block & 7))) !== 0;
  }

  /** Whether all blocks from `first` to `last` (included) have entries, none has, or some. */
  state(first: number, last: number): 'all' | 'none' | 'some' {
    const wanted = this.has(first);
    for (let block = first + 1; block <= last; block += 1) if (this.has(block) !== wanted) return 'some';
    return wanted ? 'all' : 'none';
  }

  /** Makes entries durable. The data they name is durable already. @throws NO_SPACE, IO_FAILED: there are none then */
  async add(blocks: readonly number[]): Promise<void> {
    await this.#turns.take(async () => {
      const sectors = new Set<number>();
      for (const block of blocks) {
        this.#removed.delete(block);
        this.#stored[block >>> 3] = (this.#stored[block >>> 3] as number) | (1 << (block & 7));
        sectors.add(Math.floor(block / BLOCKS_PER_SECTOR));
      }
      try {
        await this.#write(sectors);
      } catch (error) {
        // Storage may have them all the same.
        for (const block of blocks) if (!this.has(block)) this.#unsettle(block);
        throw error;
      }
    });
    for (const block of blocks) {
      if (!this.has(block)) this.#count += 1;
      this.#bits[block >>> 3] = (this.#bits[block >>> 3] as number) | (1 << (block & 7));
    }
  }

  /** Takes an entry away: the base has what the preserved volume shows. Durable with `settle`. */
  remove(block: number): void {
    if (!this.has(block)) return;
    this.#count -= 1;
    this.#bits[block >>> 3] = (this.#bits[block >>> 3] as number) & ~(1 << (block & 7));
    this.#unsettle(block);
  }

  /** Marks what was removed up to now; settle it once the base is flushed. */
  removalsSoFar(): number {
    return this.#removals;
  }

  /** Makes durable that the entries removed up to the mark are gone. The base was flushed after the mark was taken. */
  async settle(mark: number): Promise<void> {
    if (this.#removed.size === 0) return;
    await this.#turns.take(async () => {
      const settled = [...this.#removed].filter(([, removal]) => removal <= mark);
      const sectors = new Set<number>();
      for (const [block] of settled) {
        this.#removed.delete(block);
        this.#stored[block >>> 3] = (this.#stored[block >>> 3] as number) & ~(1 << (block & 7));
        sectors.add(Math.floor(block / BLOCKS_PER_SECTOR));
      }
      try {
        await this.#write(sectors);
      } catch (error) {
        // The next time.
        for (const [block, removal] of settled) this.#removed.set(block, removal);
        throw error;
      }
    });
  }

  /** Gives the preserved volume up, for ever. Durable when it returns. @throws IO_FAILED: it is not given up then */
  async markBroken(reason: VolumeBreakReason): Promise<void> {
    await this.#turns.take(async () => {
      await this.#file.write(header(this.shape, reason), 0);
      await this.#file.flush();
      this.#broken = reason;
    });
  }

  close(): Promise<void> {
    return this.#turns.take(() => this.#file.close());
  }

  /** An entry that is none, and that storage may have. */
  #unsettle(block: number): void {
    this.#removals += 1;
    this.#removed.set(block, this.#removals);
  }

  async #write(sectors: ReadonlySet<number>): Promise<void> {
    if (sectors.size === 0) return;
    for (const index of sectors) {
      const sector = new Uint8Array(SECTOR);
      sector.set(this.#stored.subarray(index * BIT_BYTES, (index + 1) * BIT_BYTES));
      new DataView(sector.buffer).setUint32(BIT_BYTES, index, true);
      await this.#file.write(sealed(sector), SECTOR * (1 + index));
    }
    await this.#file.flush();
  }

  async #load(): Promise<void> {
    const file = this.#file;
    const sectors = Math.ceil(this.blocks / BLOCKS_PER_SECTOR);
    const end = Math.min(file.size(), SECTOR * (1 + sectors));
    const sector = new Uint8Array(SECTOR);
    for (let at = SECTOR; at < end; at += SECTOR) {
      const next = file.nextData(at, end);
      if (!next) break;
      at = Math.max(at, next.offset - (next.offset % SECTOR));
      sector.fill(0);
      await file.read(sector, at);
      if (sector.every((byte) => byte === 0)) continue;
      const index = at / SECTOR - 1;
      const view = new DataView(sector.buffer);
      if (!isSealed(sector) || view.getUint32(BIT_BYTES, true) !== index) {
        throw damaged(file, at, 'a sector of the look-up table is damaged');
      }
      this.#bits.set(sector.subarray(0, BIT_BYTES), index * BIT_BYTES);
    }
    // Bits behind the disk's end stand for nothing.
    for (let block = this.blocks; block < this.#bits.length * 8; block += 1) {
      if (this.has(block))
        throw damaged(file, SECTOR, 'the look-up table has blocks behind the end of the disk');
    }
    this.#stored.set(this.#bits);
    for (const byte of this.#bits) {
      for (let rest = byte; rest !== 0; rest &= rest - 1) this.#count += 1;
    }
  }
}
