/**
 * Images that may hold blocks that tokens stand for: looked through by place first, then by content.
 *
 * Invariants: a candidate is only read, as a clone of this moment where its storage can share extents; where
 * it can't, others may change it while it is used, and `fixed` says so. A block is found by its SHA-256 alone.
 */
import { isVhdkitError } from '../../base/errors.js';
import type { Extent, Locator } from '../../block/extent.js';
import { type Chain, openChain } from '../../formats/chain.js';
import { readDisk } from '../../formats/image-reader.js';
import type { ByteRange, RandomAccessFile } from '../../io/random-access-file.js';
import { snapshotFileSystem } from '../../io/snapshot-file-system.js';
import { placeId } from '../../offload/auxiliary/auxiliary-codec.js';
import { blockRange, wholeBlocks } from '../../offload/auxiliary/block-grid.js';
import type { BlockMap, Finding, HashedRange } from '../../offload/auxiliary/block-map.js';
import { BlockSums, SHA256, ZeroSums } from '../../offload/auxiliary/block-sums.js';
import { contentOf } from '../content-stream.js';
import type { Host } from '../host.js';

/** Something that blocks are found in. */
export interface BlockSource {
  readonly path: string;
  /** Nobody can change it. */
  readonly fixed: boolean;
  /** What lies in a range of it. */
  locate(offset: number, length: number): Promise<Extent[]>;
  /** Fills the buffer; what is not there reads as zeros. */
  read(buffer: Uint8Array, offset: number): Promise<void>;
}

class FileSource implements BlockSource {
  readonly path: string;
  readonly fixed: boolean;
  readonly #file: RandomAccessFile;

  constructor(file: RandomAccessFile, fixed: boolean) {
    this.path = file.path;
    this.fixed = fixed;
    this.#file = file;
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    return [{ state: 'data', offset, length, file: this.#file, fileOffset: offset }];
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    buffer.fill(0, await this.#file.read(buffer, offset));
  }
}

class DiskSource implements BlockSource {
  readonly path: string;
  readonly fixed: boolean;
  readonly chain: Chain;

  constructor(path: string, chain: Chain, fixed: boolean) {
    this.path = path;
    this.chain = chain;
    this.fixed = fixed;
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    return this.chain.locate(offset, length);
  }

  read(buffer: Uint8Array, offset: number): Promise<void> {
    return readDisk(this.chain, buffer, offset);
  }
}

/** Reasons for which a clone of a file is done without. */
const NO_CLONE: ReadonlySet<string> = new Set(['UNSUPPORTED', 'PERMISSION_DENIED', 'NO_SPACE']);

async function openCandidate(host: Host, path: string): Promise<DiskSource> {
  try {
    return new DiskSource(path, await openChain(snapshotFileSystem(host.fileSystem), path), true);
  } catch (error) {
    if (!isVhdkitError(error) || !NO_CLONE.has(error.code)) throw error;
    return new DiskSource(path, await openChain(host.fileSystem, path), false);
  }
}

export interface SearchOptions {
  signal?: AbortSignal;
  /** Called with the bytes looked through, and how many that will be at most. */
  onRead?: (done: number, most: number) => void;
}

/** The images that may hold blocks. */
export class Candidates {
  /** The source of zeros, which are nowhere and everywhere. */
  static readonly zeros = 0;
  readonly #disks: DiskSource[] = [];
  readonly #files = new Map<string, number>();
  readonly #sources: BlockSource[] = [];
  readonly #zeros = new ZeroSums(SHA256);
  #read = 0;
  /** Of what is looked through at most: grows when it turns out to be more. */
  #most = 0;

  /** @throws what opening throws */
  static async open(host: Host, paths: readonly string[], key: Uint8Array): Promise<Candidates> {
    const candidates = new Candidates();
    try {
      for (const path of paths) await candidates.#add(host, await openCandidate(host, path), key);
      return candidates;
    } catch (error) {
      await candidates.close();
      throw error;
    }
  }

  async #add({ fileSystem }: Host, disk: DiskSource, key: Uint8Array): Promise<void> {
    this.#disks.push(disk);
    this.#sources.push(disk);
    for (const { file } of disk.chain.images) {
      const path = (await fileSystem.realPath?.(file.path)) ?? file.path;
      this.#sources.push(new FileSource(file, disk.fixed));
      this.#files.set(Buffer.from(placeId(key, path)).toString('hex'), this.#sources.length);
    }
  }

  /** For messages. */
  get paths(): string {
    return this.#disks.map(({ path }) => path).join(', ');
  }

  /** Where a finding leads; undefined for zeros. */
  source({ source }: Finding): BlockSource | undefined {
    return source === Candidates.zeros ? undefined : this.#sources[source - 1];
  }

  /** Looks for all blocks, where they were first of all. */
  async find(map: BlockMap, ranges: readonly HashedRange[], options: SearchOptions): Promise<void> {
    this.#most = ranges.reduce((sum, { length }) => sum + length, 0);
    for (const range of ranges) {
      this.#findZeros(map, range);
      await this.#findInPlace(map, range, options);
    }
    const sizes = map.missingSizes();
    const disks = this.#disks.reduce((sum, { chain }) => sum + chain.virtualSize, 0);
    this.#most = this.#read + sizes.length * disks;
    for (const size of sizes) {
      for (const disk of this.#disks) {
        if (map.missing === 0) return;
        await this.#search(map, disk, size, options);
      }
    }
  }

  #findZeros(map: BlockMap, range: HashedRange): void {
    for (const { number, length } of map.blocks(range))
      if (Buffer.compare(map.digest(number), this.#zeros.of(length)) === 0)
        map.note(number, { source: Candidates.zeros, offset: 0 });
  }

  /** In the file that the data was in, where it was. */
  async #findInPlace(map: BlockMap, range: HashedRange, options: SearchOptions): Promise<void> {
    const { fields, tokenOffset, length } = range;
    const { place } = fields;
    const source = place && this.#files.get(Buffer.from(place.id).toString('hex'));
    const { first, end } = wholeBlocks(fields, tokenOffset, tokenOffset + length);
    if (!place || source === undefined || end === first) return;
    const start = blockRange(fields, first).offset;
    const last = blockRange(fields, end - 1);
    const numbers = map.blocks(range);
    const judge = (index: number, sum: Uint8Array): void => {
      const number = numbers.next().value?.number ?? 0;
      if (Buffer.compare(map.digest(number), sum) !== 0) return;
      map.note(number, { source, offset: place.offset + blockRange(fields, index).offset });
    };
    const sums = new BlockSums(fields, SHA256, this.#zeros, judge, start);
    const whole = { offset: place.offset + start, length: last.offset + last.length - start };
    const data = window(this.#sources[source - 1] as BlockSource, whole);
    for await (const piece of contentOf(data, options.signal)) {
      sums.update(piece.length, piece.bytes);
      this.#tell(piece.length, options);
    }
  }

  /** Everywhere on a disk where a block of this size can be. */
  async #search(map: BlockMap, disk: DiskSource, size: number, options: SearchOptions): Promise<void> {
    const { chain } = disk;
    const source = this.#sources.indexOf(disk) + 1;
    const grid = { length: chain.virtualSize, blockSize: size, phase: 0 };
    const note = (index: number, sum: Uint8Array): void => map.noteAll(sum, { source, offset: index * size });
    const sums = new BlockSums(grid, SHA256, this.#zeros, note);
    for await (const { length, bytes } of contentOf(chain, options.signal)) {
      sums.update(length, bytes);
      this.#tell(length, options);
      if (map.missing === 0) return;
    }
  }

  #tell(length: number, { onRead }: SearchOptions): void {
    this.#read += length;
    onRead?.(this.#read, Math.max(this.#read, this.#most));
  }

  async close(): Promise<void> {
    for (const { chain } of this.#disks.splice(0)) await chain.close();
  }
}

/** A range of a source as a disk. */
function window(source: BlockSource, { offset, length }: ByteRange): Locator {
  return {
    virtualSize: length,
    locate: async (at, count) =>
      (await source.locate(offset + at, count)).map((extent) => ({
        ...extent,
        offset: extent.offset - offset,
      })),
  };
}
