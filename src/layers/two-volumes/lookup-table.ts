/**
 * The look-up table of two volumes that share a base image: which blocks the preserved volume has in the
 * copy-on-write image; all others it has in the base.
 *
 * Invariants: an entry is durable before `add` returns, and it is never durable before the data it names
 * (the caller flushes that first). A removed entry may still be there after a crash until `settle` has made
 * its absence durable, which is done only after the base image was flushed.
 *
 * File format (ours, little-endian), in sectors of 512 bytes, each of which storage writes whole:
 * sector 0: magic `vhdkitLT`, u32 version 1 @8, u32 block size @12, u64 disk size @16, u8 broken @24, u32 CRC-32C
 * of the first 508 bytes @508. Sector 1 + n: bits of the blocks from 4032 × n on, lowest bit first, @0..503, u32 n
 * @504, u32 CRC-32C @508. A sector that was never written is all zeros and stands for no entries.
 */
import { assert } from '../../base/assert.js';
import { isPowerOfTwo } from '../../base/bytes.js';
import { crc32c } from '../../base/crc32c.js';
import { VhdkitError } from '../../base/errors.js';
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
    hint: 'The live volume is whole without it; the preserved volume can not be told from it any more.',
  });
}

function judge({ size, blockSize }: TableShape): number {
  const blocks = Math.ceil(size / blockSize);
  const sound =
    isPowerOfTwo(blockSize) && blockSize >= MIN_BLOCK && blockSize <= MAX_BLOCK && blocks <= MAX_BLOCKS;
  if (sound) return blocks;
  throw new VhdkitError('INVALID_ARGUMENT', `No look-up table for ${size} bytes in blocks of ${blockSize}`, {
    operation: 'make look-up table',
    context: { size, blockSize },
    hint: 'Blocks have 4 KiB to 16 MiB, a power of two; larger disks need larger blocks.',
  });
}

function sealed(sector: Uint8Array): Uint8Array {
  new DataView(sector.buffer, sector.byteOffset).setUint32(CRC_AT, crc32c(sector.subarray(0, CRC_AT)), true);
  return sector;
}

function isSealed(sector: Uint8Array): boolean {
  const stored = new DataView(sector.buffer, sector.byteOffset).getUint32(CRC_AT, true);
  return stored === crc32c(sector.subarray(0, CRC_AT));
}

function header({ size, blockSize }: TableShape, broken: boolean): Uint8Array {
  const sector = new Uint8Array(SECTOR);
  const view = new DataView(sector.buffer);
  sector.set(new TextEncoder().encode(MAGIC));
  view.setUint32(8, VERSION, true);
  view.setUint32(12, blockSize, true);
  view.setBigUint64(16, BigInt(size), true);
  sector[24] = broken ? 1 : 0;
  return sealed(sector);
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
  #broken: boolean;
  #count = 0;
  /** Changes of the file follow each other. */
  #last: Promise<void> = Promise.resolve();

  private constructor(file: RandomAccessFile, shape: TableShape, blocks: number, broken: boolean) {
    this.#file = file;
    this.shape = shape;
    this.blocks = blocks;
    const sectors = Math.ceil(blocks / BLOCKS_PER_SECTOR);
    this.#bits = new Uint8Array(sectors * BIT_BYTES);
    this.#stored = new Uint8Array(sectors * BIT_BYTES);
    this.#broken = broken;
  }

  /** An empty table in an empty file. Durable when it returns. @throws INVALID_ARGUMENT, NO_SPACE, IO_FAILED */
  static async create(file: RandomAccessFile, shape: TableShape): Promise<LookupTable> {
    assert(file.size() === 0, 'a look-up table is made in an empty file');
    const blocks = judge(shape);
    await file.write(header(shape, false), 0);
    await file.flush();
    return new LookupTable(file, shape, blocks, false);
  }

  /** @throws IMAGE_CORRUPT, IO_FAILED */
  static async open(file: RandomAccessFile): Promise<LookupTable> {
    const sector = new Uint8Array(SECTOR);
    const count = await file.read(sector, 0);
    const view = new DataView(sector.buffer);
    const magic = Buffer.from(sector.subarray(0, 8)).toString('latin1');
    if (count < SECTOR || magic !== MAGIC || !isSealed(sector)) throw damaged(file, 0, 'no look-up table');
    if (view.getUint32(8, true) !== VERSION) throw damaged(file, 8, 'a look-up table of another version');
    const size = view.getBigUint64(16, true);
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged(file, 16, 'the size is out of bounds');
    const shape = { size: Number(size), blockSize: view.getUint32(12, true) };
    const table = new LookupTable(file, shape, judge(shape), sector[24] === 1);
    await table.#load();
    return table;
  }

  /** Entries. */
  get count(): number {
    return this.#count;
  }

  /** The preserved volume was given up: some of its data could not be kept. */
  get broken(): boolean {
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

  /** Makes entries durable. The data they name is durable already. */
  async add(blocks: readonly number[]): Promise<void> {
    await this.#inTurn(async () => {
      const sectors = new Set<number>();
      for (const block of blocks) {
        this.#removed.delete(block);
        this.#stored[block >>> 3] = (this.#stored[block >>> 3] as number) | (1 << (block & 7));
        sectors.add(Math.floor(block / BLOCKS_PER_SECTOR));
      }
      await this.#write(sectors);
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
    this.#removals += 1;
    this.#removed.set(block, this.#removals);
  }

  /** Marks what was removed up to now; settle it once the base is flushed. */
  removalsSoFar(): number {
    return this.#removals;
  }

  /** Makes durable that the entries removed up to the mark are gone. The base was flushed after the mark was taken. */
  async settle(mark: number): Promise<void> {
    if (this.#removed.size === 0) return;
    await this.#inTurn(async () => {
      const sectors = new Set<number>();
      for (const [block, removal] of this.#removed) {
        if (removal > mark) continue;
        this.#removed.delete(block);
        this.#stored[block >>> 3] = (this.#stored[block >>> 3] as number) & ~(1 << (block & 7));
        sectors.add(Math.floor(block / BLOCKS_PER_SECTOR));
      }
      await this.#write(sectors);
    });
  }

  /** Gives the preserved volume up, for ever. Durable when it returns. */
  async markBroken(): Promise<void> {
    this.#broken = true;
    await this.#inTurn(async () => {
      await this.#file.write(header(this.shape, true), 0);
      await this.#file.flush();
    });
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#file.close();
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => undefined);
    await mine;
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
