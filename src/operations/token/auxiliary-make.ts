/**
 * Auxiliary tokens for tokens that were just bound: their data is read once, whatever is made of it.
 *
 * Invariants: each bound token gets its own, in the tokens' order; zeros need none. Memory does not depend on
 * the size of the data: lists too long for a token go to the file beside the tokens as they come.
 *
 * Not here: whether the data changed while it was read. Whoever binds looks at that afterwards.
 */
import { resolve as absolutePath } from 'node:path';
import { GiB, isPowerOfTwo, KiB, MiB } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { Extent, Locator } from '../../block/extent.js';
import type { PendingFile } from '../../io/file-system.js';
import { createPrivateFile } from '../../io/private-file.js';
import type { ByteRange, RandomAccessFile } from '../../io/random-access-file.js';
import {
  type AuxiliaryKind,
  CHECKSUM_CHUNK,
  encodeAuxiliary,
  LARGEST_HASH_BLOCK,
  type Place,
  placeId,
  primaryDigest,
  SMALLEST_HASH_BLOCK,
} from '../../offload/auxiliary/auxiliary-codec.js';
import type { Grid } from '../../offload/auxiliary/block-grid.js';
import { MAX_HASH_BLOCKS } from '../../offload/auxiliary/block-map.js';
import { BlockSums, CRC32C, SHA256, ZeroSums } from '../../offload/auxiliary/block-sums.js';
import { fitsToken, ListSink, listBytes, SumsFileWriter } from '../../offload/auxiliary/sums-file.js';
import type { Token } from '../../offload/token.js';
import { inspectToken } from '../../offload/token-codec.js';
import { contentOf } from '../content-stream.js';
import type { Host, ProgressSink } from '../host.js';

const USUAL_HASH_BLOCKS = 2 ** 20;
const DEFAULT_HASH_BLOCK = 64 * KiB;
/** Sums of so much data are in memory before they are put where they belong. */
const STEP = MiB;

/** A token and what it is bound to. `offset` is the place on the disk. */
export interface BoundData extends ByteRange {
  token: Token;
  file: RandomAccessFile;
  fileOffset: number;
}

export interface WantedAuxiliary {
  /** Checksum tokens. */
  checksum?: boolean;
  /** Hash tokens. */
  hash?: boolean;
  /** Bytes, a power of two from 4 KiB to 4 MiB. Default: 64 KiB, or more for much data. */
  hashBlock?: number;
}

export interface MadeAuxiliary {
  tokens: Token[];
  /** Lists that were too long for their tokens; to be published or discarded. */
  sums: PendingFile | undefined;
  /** Undefined without hash tokens. */
  hashBlock: number | undefined;
}

interface MakeOptions extends WantedAuxiliary {
  /** Where the lists go that are too long for their tokens. */
  path: string;
  /** The store's key. */
  key: Uint8Array;
  force: boolean;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

/** @throws INVALID_ARGUMENT for a block size that makes no sense */
export function assertHashBlock({ hashBlock }: WantedAuxiliary): void {
  if (hashBlock === undefined) return;
  const sound =
    isPowerOfTwo(hashBlock) && hashBlock >= SMALLEST_HASH_BLOCK && hashBlock <= LARGEST_HASH_BLOCK;
  if (sound) return;
  throw new VhdkitError('INVALID_ARGUMENT', `Data can't be hashed in blocks of ${hashBlock} bytes`, {
    operation: 'hash data',
    context: { hashBlock },
    hint: 'Choose a power of two from 4K to 4M for --hash-block.',
  });
}

/** @throws UNSUPPORTED when there would be too many blocks */
function hashBlockFor(ranges: readonly BoundData[], { hashBlock }: WantedAuxiliary): number {
  const total = ranges.reduce((sum, { length }) => sum + length, 0);
  // A range that does not begin with a block has one more.
  const blocks = (size: number): number => Math.ceil(total / size) + 2 * ranges.length;
  let size = hashBlock ?? DEFAULT_HASH_BLOCK;
  if (hashBlock === undefined) {
    while (size < LARGEST_HASH_BLOCK && blocks(size) > USUAL_HASH_BLOCKS) size *= 2;
  }
  if (blocks(size) <= MAX_HASH_BLOCKS) return size;
  const most = Math.floor((MAX_HASH_BLOCKS * size) / GiB);
  throw new VhdkitError('UNSUPPORTED', `So much data can't be hashed in blocks of ${size} bytes`, {
    operation: 'hash data',
    context: { length: total, hashBlock: size },
    hint: `Choose larger blocks (--hash-block), or a range of at most ${most} GiB.`,
  });
}

/** All bound data as one disk, so that reading ahead does not end with each token. */
function dataOf(ranges: readonly BoundData[]): Locator {
  const starts: number[] = [];
  let end = 0;
  for (const { length } of ranges) {
    starts.push(end);
    end += length;
  }
  // Whoever walks asks in order.
  let hint = 0;
  return {
    virtualSize: end,
    async locate(offset, length) {
      const extents: Extent[] = [];
      if ((starts[hint] ?? 0) > offset) hint = 0;
      for (let at = offset; at < offset + length; ) {
        while (hint + 1 < starts.length && (starts[hint + 1] as number) <= at) hint += 1;
        const range = ranges[hint] as BoundData;
        const shift = range.fileOffset - (starts[hint] as number);
        const stop = Math.min(offset + length, (starts[hint] as number) + range.length);
        const run = range.file.nextData(at + shift, stop + shift);
        const start = run ? run.offset - shift : stop;
        if (start > at) extents.push({ state: 'zero', offset: at, length: start - at });
        if (run)
          extents.push({
            state: 'data',
            offset: start,
            length: run.length,
            file: range.file,
            fileOffset: run.offset,
          });
        at = run ? start + run.length : stop;
      }
      return extents;
    },
  };
}

interface Summing {
  update(length: number, bytes: Uint8Array | undefined): void;
  drain(): Promise<void>;
  finish(): Promise<Token>;
}

class Maker {
  readonly #host: Host;
  readonly #options: MakeOptions;
  readonly #hashBlock: number | undefined;
  readonly #places = new Map<RandomAccessFile, Uint8Array>();
  readonly #zeros = { checksum: new ZeroSums(CRC32C), hash: new ZeroSums(SHA256) };

  constructor(host: Host, options: MakeOptions, hashBlock: number | undefined) {
    this.#host = host;
    this.#options = options;
    this.#hashBlock = hashBlock;
  }

  /** The tokens that a range is to get, with what their sums are of. */
  grids({ offset, length }: ByteRange): { kind: AuxiliaryKind; grid: Grid }[] {
    const { checksum } = this.#options;
    const size = this.#hashBlock;
    const checksums = { kind: 'checksum', grid: { length, blockSize: CHECKSUM_CHUNK, phase: 0 } } as const;
    const hashes =
      size && ({ kind: 'hash', grid: { length, blockSize: size, phase: offset % size } } as const);
    return [...(checksum ? [checksums] : []), ...(hashes ? [hashes] : [])];
  }

  async begin(range: BoundData, writer: SumsFileWriter | undefined): Promise<Summing[]> {
    const place: Place = { id: await this.#placeOf(range.file), offset: range.fileOffset };
    return this.grids(range).map(({ kind, grid }) => {
      const bytes = listBytes({ kind, ...grid });
      const room = writer && !fitsToken(bytes) ? writer.begin(bytes) : undefined;
      const sink = room?.sink ?? new ListSink(bytes, undefined, 0);
      const add = (_index: number, sum: Uint8Array): void => sink.add(sum);
      const sums = new BlockSums(grid, kind === 'hash' ? SHA256 : CRC32C, this.#zeros[kind], add);
      return {
        update: (length, data) => sums.update(length, data),
        drain: () => sink.drain(),
        finish: async () => {
          const finished = await (room ? room.close() : sink.finish());
          const primary = primaryDigest(range.token);
          const primaryId = Buffer.from(inspectToken(range.token)?.id ?? '', 'hex');
          const fields = { ...grid, ...finished, kind, primary, primaryId };
          return encodeAuxiliary(
            { ...fields, place: kind === 'hash' ? place : undefined },
            this.#options.key,
          );
        },
      };
    });
  }

  async #placeOf(file: RandomAccessFile): Promise<Uint8Array> {
    let id = this.#places.get(file);
    if (!id) {
      const path = (await this.#host.fileSystem.realPath?.(file.path)) ?? absolutePath(file.path);
      id = placeId(this.#options.key, path);
      this.#places.set(file, id);
    }
    return id;
  }
}

/** Reads the data of the ranges and sums it up. */
async function sumUp(
  ranges: readonly BoundData[],
  maker: Maker,
  writer: SumsFileWriter | undefined,
  { signal, progress }: MakeOptions,
): Promise<Token[]> {
  const tokens: Token[] = [];
  const data = dataOf(ranges);
  let next = 0;
  let left = 0;
  let open: Summing[] = [];
  for await (const { offset, length, bytes } of contentOf(data, signal)) {
    for (let done = 0; done < length; ) {
      if (left === 0) {
        const range = ranges[next] as BoundData;
        next += 1;
        left = range.length;
        open = await maker.begin(range, writer);
      }
      const count = Math.min(left, length - done, STEP);
      for (const summing of open) {
        summing.update(count, bytes?.subarray(done, done + count));
        await summing.drain();
      }
      left -= count;
      done += count;
      if (left === 0) for (const summing of open) tokens.push(await summing.finish());
    }
    progress?.update(offset + length, data.virtualSize);
  }
  return tokens;
}

/**
 * Checksum and hash tokens for bound data.
 * @throws INVALID_ARGUMENT, UNSUPPORTED (more blocks than can be looked for), CANCELLED, NO_SPACE, IO_FAILED
 */
export async function makeAuxiliary(
  host: Host,
  ranges: readonly BoundData[],
  options: MakeOptions,
): Promise<MadeAuxiliary> {
  const wanted = options.hash === true || options.hashBlock !== undefined;
  if (!wanted && !options.checksum) return { tokens: [], sums: undefined, hashBlock: undefined };
  const hashBlock = wanted ? hashBlockFor(ranges, options) : undefined;
  const maker = new Maker(host, options, hashBlock);
  const lists = ranges
    .flatMap((range) => maker.grids(range))
    .filter(({ kind, grid }) => !fitsToken(listBytes({ kind, ...grid }))).length;
  const sums = lists > 0 ? await createPrivateFile(options.path, options.force) : undefined;
  try {
    const writer = sums && new SumsFileWriter(sums.file, lists);
    const tokens = await sumUp(ranges, maker, writer, options);
    await writer?.finish();
    return { tokens, sums, hashBlock };
  } catch (error) {
    await sums?.discard();
    throw error;
  }
}
