/**
 * `token write --have`: what tokens stand for, taken from images that hold it already, as far as hash tokens
 * tell; the rest through the tokens themselves.
 *
 * Invariants: only data with the right hash is ever used. Of a candidate that nobody can change (a clone of
 * this moment), looking once is enough, and its extents can be shared; of others, each block is looked at
 * again in the buffer that it is written from. Tokens whose data was all found are not used: they may be
 * void. Those that are needed are resolved before anything is written, so that a set is used whole or
 * refused whole.
 */
import { roundDown, roundUp } from '../../base/bytes.js';
import { throwIfAborted, VhdkitError } from '../../base/errors.js';
import { clipExtent, type Extent, pushExtent } from '../../block/extent.js';
import {
  type Block,
  BlockMap,
  countBlocks,
  type HashedRange,
  MAX_HASH_BLOCKS,
} from '../../offload/auxiliary/block-map.js';
import { CheckedFile } from '../../offload/auxiliary/checked-file.js';
import type { TokenStore } from '../../offload/store/token-store.js';
import type { TokenManager } from '../../offload/token-manager.js';
import type { Host, ProgressSink } from '../host.js';
import type { AuxiliarySet } from './auxiliary-read.js';
import { Candidates } from './candidates.js';
import {
  type Clipped,
  resolveContent,
  type Selection,
  select,
  type TokenContent,
  type TokenExtent,
} from './content.js';
import { countingRefusal } from './refusals.js';
import type { TokenRange } from './token-file.js';

/** Extents of candidates are shared from and to multiples of this, and read between: targets have sectors. */
const ALIGNMENT = 4096;
/** Longest run that is looked up at once. */
const LOCATE_WINDOW = 64 * 1024 * 1024;

export interface FoundContent extends TokenContent {
  /** Gives back candidates and tokens; `release` does not wait for that. */
  close(): Promise<void>;
  /** Bytes of blocks that were found; final once everything was written. */
  reused(): number;
}

/** A stretch of the content that comes from one place. */
interface Run {
  offset: number;
  length: number;
  /** The number of a candidate, and where in it; undefined: through the token. */
  found: { source: number; offset: number } | undefined;
}

function continues(run: Run, { offset, found }: Run): boolean {
  if (run.offset + run.length !== offset) return false;
  if (!run.found || !found) return run.found === found;
  return (
    run.found.source === found.source &&
    (found.source === Candidates.zeros || run.found.offset + run.length === found.offset)
  );
}

/** What a range consists of. */
function* runsOf(map: BlockMap, range: HashedRange): Generator<Run> {
  let open: Run | undefined;
  let end = range.offset;
  const push = function* (run: Run): Generator<Run> {
    end = run.offset + run.length;
    if (open && continues(open, run)) open = { ...open, length: open.length + run.length };
    else {
      if (open) yield open;
      open = run;
    }
  };
  for (const { number, offset, length } of map.blocks(range)) {
    if (offset > end) yield* push({ offset: end, length: offset - end, found: undefined });
    yield* push({ offset, length, found: map.found(number) });
  }
  const stop = range.offset + range.length;
  if (stop > end) yield* push({ offset: end, length: stop - end, found: undefined });
  if (open) yield open;
}

/** What is used of the tokens of a file, range by range, resolved when it is needed. */
class ThroughTokens {
  readonly #resolve: (range: Clipped) => Promise<TokenContent>;
  readonly #contents = new Map<Clipped, Promise<TokenContent>>();

  constructor(resolve: (range: Clipped) => Promise<TokenContent>) {
    this.#resolve = resolve;
  }

  async extents(range: Clipped): Promise<TokenExtent[]> {
    let resolving = this.#contents.get(range);
    if (!resolving) {
      resolving = this.#resolve(range);
      this.#contents.set(range, resolving);
    }
    const { extents } = await resolving;
    return extents.map((extent) => ({ ...extent, offset: extent.offset + range.offset }));
  }

  async verifyUnchanged(): Promise<void> {
    for (const content of await this.#resolved()) await content.verifyUnchanged();
  }

  async release(): Promise<void> {
    for (const content of await this.#resolved()) content.release();
  }

  /** Those that could be resolved. */
  async #resolved(): Promise<TokenContent[]> {
    const settled = await Promise.allSettled(this.#contents.values());
    return settled.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  }
}

/** Puts the content together. */
class Composer {
  readonly #map: BlockMap;
  readonly #candidates: Candidates;
  readonly #tokens: ThroughTokens;
  /** Ranges with hashes, by where they begin. */
  readonly #ranges: ReadonlyMap<HashedRange, Clipped>;
  readonly #checked: CheckedFile;
  #found = 0;

  constructor(
    map: BlockMap,
    candidates: Candidates,
    tokens: ThroughTokens,
    ranges: ReadonlyMap<HashedRange, Clipped>,
    size: number,
  ) {
    this.#map = map;
    this.#candidates = candidates;
    this.#tokens = tokens;
    this.#ranges = ranges;
    const access = {
      path: candidates.paths,
      read: async ({ number }: Block, buffer: Uint8Array) => {
        const found = map.found(number);
        const source = found && candidates.source(found);
        if (found && source) await source.read(buffer, found.offset);
      },
      instead: (block: Block, buffer: Uint8Array) => this.#readThroughToken(block, buffer),
    };
    this.#checked = new CheckedFile(map, access, size);
  }

  /** Bytes of blocks that were found and still were there when they were used. */
  get reused(): number {
    return this.#found - this.#checked.replaced;
  }

  async *pieces(range: HashedRange): AsyncGenerator<TokenExtent> {
    for (const run of runsOf(this.#map, range)) {
      if (run.found) yield* this.#foundPieces(run, run.found);
      else yield* await this.#rest(run, range);
    }
  }

  async *#foundPieces(run: Run, found: { source: number; offset: number }): AsyncGenerator<TokenExtent> {
    const { offset, length } = run;
    this.#found += length;
    const source = this.#candidates.source(found);
    if (!source) {
      yield { state: 'zero', offset, length };
      return;
    }
    const { fixed } = source;
    const shift = offset - found.offset;
    let end = offset;
    for (let done = 0; done < length; done += LOCATE_WINDOW) {
      const count = Math.min(LOCATE_WINDOW, length - done);
      for (const extent of fixed ? await source.locate(found.offset + done, count) : []) {
        const start = offset + roundUp(extent.offset - found.offset, ALIGNMENT);
        const last = extent.offset + extent.length - found.offset;
        const stop = offset + (last === length ? last : roundDown(last, ALIGNMENT));
        if (start >= stop) continue;
        if (start > end) yield this.#checkedPiece(end, start);
        yield clipExtent(moved(extent, extent.offset + shift), start, stop - start);
        end = stop;
      }
    }
    if (end < offset + length) yield this.#checkedPiece(end, offset + length);
  }

  /** Through a buffer, looked at again. */
  #checkedPiece(start: number, end: number): TokenExtent {
    return {
      state: 'data',
      offset: start,
      length: end - start,
      file: this.#checked,
      fileOffset: start,
    };
  }

  /** A stretch that was not found: the token is needed. */
  async #rest({ offset, length }: Run, range: HashedRange): Promise<TokenExtent[]> {
    const extents = await this.#throughToken(range).catch((error: unknown) => {
      throw this.#notAllFound(error);
    });
    return extents
      .filter((extent) => extent.offset < offset + length && offset < extent.offset + extent.length)
      .map((extent) => clipExtent(extent, offset, length));
  }

  async #throughToken(range: HashedRange): Promise<TokenExtent[]> {
    const clipped = this.#ranges.get(range);
    return clipped ? this.#tokens.extents(clipped) : [];
  }

  #notAllFound(error: unknown): unknown {
    if (!(error instanceof VhdkitError)) return error;
    const { code, message, context, operation = 'resolve token', hint } = error;
    const { missing } = this.#map;
    return new VhdkitError(
      code,
      `${message}; ${missing} of the data's blocks are in none of ${this.#candidates.paths}`,
      {
        operation,
        context: { ...context, missing },
        cause: error,
        ...(hint === undefined ? {} : { hint }),
      },
    );
  }

  /** For a block that is not where it was found any more. */
  async #readThroughToken(block: Block, buffer: Uint8Array): Promise<void> {
    const range = [...this.#ranges.keys()].find(
      ({ offset, length }) => block.offset >= offset && block.offset < offset + length,
    );
    let extents: TokenExtent[];
    try {
      extents = range ? await this.#throughToken(range) : [];
    } catch (error) {
      throw new VhdkitError(
        'SOURCE_CHANGED',
        `${this.#candidates.paths} was changed: a block that was there is gone`,
        {
          operation: 'use block',
          context: { path: this.#candidates.paths, offset: block.offset, length: block.length },
          cause: error,
          hint: 'Stop whatever writes to it and write again, or read fresh tokens.',
        },
      );
    }
    buffer.fill(0);
    for (const extent of extents) {
      const overlap =
        extent.offset < block.offset + block.length && block.offset < extent.offset + extent.length;
      if (extent.state !== 'data' || !overlap) continue;
      const part = clipExtent(extent, block.offset, block.length);
      const start = part.offset - block.offset;
      await part.file.read(buffer.subarray(start, start + part.length), part.fileOffset);
    }
  }
}

function moved(extent: Extent, offset: number): TokenExtent {
  return extent.state === 'data' ? { ...extent, offset } : { state: 'zero', offset, length: extent.length };
}

export interface HaveOptions extends Selection {
  /** Images that may hold the data. */
  have: readonly string[];
  /** The store's key. */
  key: Uint8Array;
  /** Refusals are counted there. */
  store: TokenStore;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

/**
 * The ranges that have hash tokens.
 * @throws INVALID_ARGUMENT when none has, UNSUPPORTED when they have too many blocks: `token read` makes no such
 *   tokens, but anybody may, and ranges may be listed more than once
 */
function hashedRanges(
  clipped: readonly Clipped[],
  auxiliary: AuxiliarySet,
  path: string,
): Map<HashedRange, Clipped> {
  const hashed = new Map<HashedRange, Clipped>();
  for (const range of clipped) {
    const { token, claims, offset, length, tokenOffset } = range;
    const fields = claims.mode === 'zero' ? undefined : auxiliary.of(token, 'hash');
    if (fields && fields.length === claims.length) hashed.set({ fields, offset, length, tokenOffset }, range);
  }
  if (countBlocks(hashed.keys()) > MAX_HASH_BLOCKS) {
    throw new VhdkitError('UNSUPPORTED', `${path} has too many blocks to look for`, {
      operation: 'look for blocks',
      context: { path, most: MAX_HASH_BLOCKS },
      hint: 'Take a part of it at a time (--token-offset, --length), or make tokens with a larger --hash-block.',
    });
  }
  const onlyZeros = clipped.every(({ claims }) => claims.mode === 'zero');
  if (hashed.size > 0 || onlyZeros) return hashed;
  throw new VhdkitError('INVALID_ARGUMENT', `${path} has no hashes of its data`, {
    operation: 'look for blocks',
    context: { path },
    hint: 'Make tokens with `vhdkit token read --hash`, or write without --have.',
  });
}

/**
 * What tokens stand for, as far as possible from candidates.
 * @param path of the token file
 * @throws INVALID_ARGUMENT (no hashes, zeros without end), TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED,
 *   PERMISSION_DENIED, OUT_OF_RANGE, CANCELLED, and what opening candidates throws
 */
export async function resolveFound(
  host: Host,
  manager: TokenManager,
  ranges: readonly TokenRange[],
  auxiliary: AuxiliarySet,
  path: string,
  options: HaveOptions,
): Promise<FoundContent> {
  const { tokenOffset = 0, signal, progress } = options;
  const clipped = select(ranges, options, path);
  await auxiliary.assertGenuine('hash', options.store);
  const hashed = hashedRanges(clipped, auxiliary, path);
  const through = new ThroughTokens(({ offset, length }) =>
    resolveContent(manager, ranges, { tokenOffset: tokenOffset + offset, length }, path),
  );
  const candidates = await Candidates.open(host, options.have, options.key);
  const release = async (): Promise<void> => {
    await through.release();
    await candidates.close();
  };
  try {
    const map = new BlockMap([...hashed.keys()]);
    await countingRefusal(options.store, () =>
      map.load(async ({ fields }, first, end) => (await auxiliary.list(fields)).read(first, end)),
    );
    await candidates.find(map, [...hashed.keys()], {
      ...(signal ? { signal } : {}),
      ...(progress ? { onRead: (done, total) => progress.update(done, total) } : {}),
    });
    const last = clipped.at(-1);
    const length = last ? last.offset + last.length : 0;
    const composer = new Composer(map, candidates, through, hashed, length);
    const byRange = new Map([...hashed].map(([range, key]) => [key, range]));
    const extents: TokenExtent[] = [];
    for (const range of clipped) {
      throwIfAborted(signal, 'look for blocks');
      const known = byRange.get(range);
      const pieces = known ? composer.pieces(known) : await through.extents(range);
      for await (const extent of pieces) pushExtent(extents, extent);
    }
    return {
      extents,
      length,
      verifyUnchanged: () => through.verifyUnchanged(),
      release: () => void release().catch(() => undefined),
      close: release,
      reused: () => composer.reused,
    };
  } catch (error) {
    await release();
    throw error;
  }
}
