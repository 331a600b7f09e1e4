/**
 * `token read`: tokens for a range of a disk, through its chain.
 *
 * Invariants: the tokens together stand for the range as it was at one moment: images that change while
 * they are looked at are refused. Either all tokens are bound and in the file, or none.
 *
 * Zeros get the well-known zero token, which is bound to nothing: the set of a range without data never
 * expires and notices no change.
 */
import { resolve as absolutePath } from 'node:path';
import { throwIfAborted, VhdkitError } from '../../base/errors.js';
import { type ChainExtent, walkExtents } from '../../block/extent.js';
import { type Chain, openChain } from '../../formats/chain.js';
import type { FormatId } from '../../formats/disk-image.js';
import { assertInsideDisk } from '../../formats/image-reader.js';
import type { ByteRange, FileFingerprint, RandomAccessFile } from '../../io/random-access-file.js';
import type { Token } from '../../offload/token.js';
import { inspectToken, ZERO_TOKEN } from '../../offload/token-codec.js';
import type { TokenManager } from '../../offload/token-manager.js';
import { assertNotHeld } from '../editable-chain.js';
import type { Host, ProgressSink } from '../host.js';
import { openWholeChain } from '../whole-chain.js';
import {
  assertHashBlock,
  type BoundData,
  type MadeAuxiliary,
  makeAuxiliary,
  type WantedAuxiliary,
} from './auxiliary-make.js';
import { DEFAULT_TTL, LONGEST_TTL, type StoreChoice, withTokens } from './store.js';
import { assertNoTokenFile, MAX_TOKENS, sumsPath, writeTokenFile } from './token-file.js';
import { watchTokens } from './watch.js';

/** What counts as a sector whatever the disk says: tokens stand for blocks of this size. */
const SECTOR = 512;

const MOST_PRIORITY = 100;

export type ReadableMode = 'change-vulnerable' | 'persistent';

export interface TokenReadOptions extends WantedAuxiliary {
  path: string;
  format?: FormatId;
  /** Bytes, whole sectors. Default 0. */
  offset?: number;
  /** Bytes, whole sectors unless it ends with the disk. Default: up to the end. */
  length?: number;
  /** Where the tokens go. */
  output: string;
  mode?: ReadableMode;
  /** Inactivity time-out in milliseconds. */
  ttl?: number;
  /** Milliseconds from now after which the tokens are void however much they are used. */
  expires?: number;
  /** Replace a token file that is there. */
  force?: boolean;
  store?: StoreChoice;
  signal?: AbortSignal;
  /** Told only where data is read: for checksums and hashes. */
  progress?: ProgressSink;
  /** Tokens of lower priority make room first, -100 to 100. Default 0. */
  priority?: number;
  /** Binds the tokens to this process: called once they can be used, and when it settles they end. */
  hold?: (result: TokenReadResult) => Promise<void>;
}

export interface TokenReadResult {
  path: string;
  output: string;
  /** The file that lists the ranges, where there is one. */
  ranges: string | null;
  offset: number;
  length: number;
  mode: ReadableMode;
  /** Milliseconds. */
  ttl: number;
  /** Milliseconds since 1970 UTC; null: never. */
  expires: number | null;
  priority: number;
  /** Whether they end with this process. */
  held: boolean;
  /** Ids are those of `token list`; zeros have none. `offset` is the place on the disk. */
  tokens: { id: string | null; state: 'data' | 'zero'; offset: number; length: number }[];
  /** Checksum and hash tokens: how many go along. */
  auxiliary: number;
  /** Bytes under one hash; null without hash tokens. */
  hashBlock: number | null;
  /** The file with the sums that the tokens have no room for. */
  sums: string | null;
}

/**
 * @throws ALREADY_EXISTS, OUT_OF_RANGE, INVALID_ARGUMENT (not whole sectors, a life too long), IN_USE (being written to),
 *   SOURCE_CHANGED, UNSUPPORTED (persistent where storage can't, devices, too many pieces), TOKEN_LIMIT, TOKEN_STORE_FAILED,
 *   and what opening throws
 */
export async function readToken(host: Host, options: TokenReadOptions): Promise<TokenReadResult> {
  const { path, output, force = false } = options;
  assertLife(options);
  assertHashBlock(options);
  await assertNoTokenFile(host, output, force);
  const before = await fingerprints(host, options);
  const chain = await openWholeChain(host, path, formatOf(options));
  try {
    await assertNotHeld(host.fileSystem, chain.images);
    const range = rangeOf(chain, options);
    return await withTokens(host, options.store, async ({ manager, store }) => {
      const bound = new BoundRanges(host, manager, options);
      let auxiliary: MadeAuxiliary | undefined;
      try {
        await bound.bind(await pieces(chain, range, options));
        const making = { ...options, path: sumsPath(output), key: await store.key(), force };
        auxiliary = await bound.during(() => makeAuxiliary(host, bound.data(), making));
        assertSame(before, chain);
        const ranges = bound.inOrder().map((entry) => ({ ...entry, offset: entry.offset - range.offset }));
        const beside = await writeTokenFile(host, output, ranges, force, auxiliary);
        const result = resultOf(options, range, bound, beside, auxiliary);
        if (options.hold) await holding(host, manager, () => options.hold?.(result));
        return result;
      } catch (error) {
        await auxiliary?.sums?.discard();
        await bound.revoke();
        throw error;
      }
    });
  } finally {
    await chain.close();
  }
}

/** Gives signs of life while somebody waits. */
async function holding(
  host: Host,
  manager: TokenManager,
  wait: () => Promise<void> | undefined,
): Promise<void> {
  const watch = watchTokens(host, manager, {});
  try {
    await wait();
  } finally {
    await watch.stop();
  }
}

function formatOf({ format }: TokenReadOptions): { format?: FormatId } {
  return format ? { format } : {};
}

function assertLife({ ttl, expires, priority = 0 }: TokenReadOptions): void {
  if (!Number.isInteger(priority) || Math.abs(priority) > MOST_PRIORITY) {
    throw new VhdkitError('INVALID_ARGUMENT', `No priority: ${priority}`, {
      operation: 'bind token',
      context: { priority },
      hint: `Priorities are whole numbers from -${MOST_PRIORITY} to ${MOST_PRIORITY}.`,
    });
  }
  const wrong = ttl !== undefined && (ttl <= 0 || ttl > LONGEST_TTL) ? 'ttl' : undefined;
  if (!wrong && (expires === undefined || expires > 0)) return;
  throw new VhdkitError('INVALID_ARGUMENT', `No token can live so long: --${wrong ?? 'expires'}`, {
    operation: 'bind token',
    context: wrong ? { ttl, longest: LONGEST_TTL } : { expires },
    hint: 'The inactivity time-out is more than nothing and at most 30 days; --expires more than nothing.',
  });
}

/** What the images are before they are looked at. */
async function fingerprints(host: Host, options: TokenReadOptions): Promise<(FileFingerprint | undefined)[]> {
  const chain = await openChain(host.fileSystem, options.path, formatOf(options));
  try {
    return chain.images.map(({ file }) => file.fingerprint());
  } finally {
    await chain.close();
  }
}

/** @throws SOURCE_CHANGED when what was located may not be what was bound */
function assertSame(before: readonly (FileFingerprint | undefined)[], chain: Chain): void {
  for (const [index, { file }] of chain.images.entries()) {
    const [then, now] = [before[index], file.fingerprint()];
    const same =
      then?.mtime === now?.mtime &&
      then?.ctime === now?.ctime &&
      then?.inode === now?.inode &&
      then?.size === now?.size;
    if (same && before.length === chain.images.length) continue;
    throw new VhdkitError('SOURCE_CHANGED', `${file.path} was changed while tokens were bound to it`, {
      operation: 'bind token',
      context: { path: file.path },
      hint: 'Stop whatever writes to it (a running virtual machine?), then try again.',
    });
  }
}

/** @throws OUT_OF_RANGE, INVALID_ARGUMENT */
function rangeOf(chain: Chain, { path, offset = 0, length }: TokenReadOptions): ByteRange {
  const { virtualSize } = chain;
  const count = length ?? Math.max(0, virtualSize - offset);
  assertInsideDisk(virtualSize, offset, count, path);
  const end = offset + count;
  if (count > 0 && offset % SECTOR === 0 && (end % SECTOR === 0 || end === virtualSize)) {
    return { offset, length: count };
  }
  throw new VhdkitError(
    'INVALID_ARGUMENT',
    `Tokens stand for whole sectors of ${SECTOR} bytes, at least one`,
    {
      operation: 'bind token',
      context: { path, offset, length: count },
      hint: 'Round --offset down and --length up.',
    },
  );
}

/** Joins data that lies in one file with only a hole of that file between: one token instead of many. */
function joinsAcross(a: ChainExtent, hole: ChainExtent, b: ChainExtent): boolean {
  if (a.state !== 'data' || b.state !== 'data' || hole.state !== 'zero' || a.file !== b.file) return false;
  const end = a.fileOffset + a.length;
  return b.fileOffset - end === hole.length && a.file.nextData(end, b.fileOffset) === undefined;
}

/** What the range consists of, in as few pieces as the files allow. */
async function pieces(chain: Chain, range: ByteRange, options: TokenReadOptions): Promise<ChainExtent[]> {
  const found: ChainExtent[] = [];
  for await (const extent of walkExtents(chain, range)) {
    throwIfAborted(options.signal, 'bind token');
    const [before, hole] = found.slice(-2);
    if (before && hole && joinsAcross(before, hole, extent)) {
      found.pop();
      before.length += hole.length + extent.length;
      continue;
    }
    found.push({ ...extent });
    if (found.length <= MAX_TOKENS) continue;
    throw new VhdkitError('UNSUPPORTED', `The range lies in more than ${MAX_TOKENS} pieces`, {
      operation: 'bind token',
      context: { path: options.path, ...range },
      hint: 'Take a shorter range, or put the image in order first (vhdkit defrag).',
    });
  }
  return found;
}

interface BoundRange extends ByteRange {
  token: Token;
  /** Where the data is; undefined for zeros. */
  place?: { file: RandomAccessFile; fileOffset: number };
}

/** Tokens under way to their file. */
class BoundRanges {
  readonly #host: Host;
  readonly #manager: TokenManager;
  readonly #options: TokenReadOptions;
  readonly #bound: BoundRange[] = [];
  readonly #together = new Set<string>();
  readonly expires: number | undefined;

  constructor(host: Host, manager: TokenManager, options: TokenReadOptions) {
    this.#host = host;
    this.#manager = manager;
    this.#options = options;
    this.expires = options.expires === undefined ? undefined : host.clock.now() + options.expires;
  }

  async bind(extents: readonly ChainExtent[]): Promise<void> {
    const files = new Map<RandomAccessFile, ChainExtent[]>();
    for (const extent of extents) {
      const { offset, length } = extent;
      if (extent.state !== 'data') this.#bound.push({ token: ZERO_TOKEN, offset, length });
      else {
        const list = files.get(extent.file);
        if (list) list.push(extent);
        else files.set(extent.file, [extent]);
      }
    }
    for (const [file, list] of files) await this.#bindFile(file, list);
  }

  async #bindFile(file: RandomAccessFile, extents: readonly ChainExtent[]): Promise<void> {
    const { fileSystem } = this.#host;
    const { mode = 'change-vulnerable', ttl = DEFAULT_TTL } = this.#options;
    const path = (await fileSystem.realPath?.(file.path)) ?? absolutePath(file.path);
    const ranges = extents.map((extent) => ({
      offset: extent.state === 'data' ? extent.fileOffset : 0,
      length: extent.length,
    }));
    const { priority = 0, hold } = this.#options;
    const life = { ttl, priority, ...(this.expires === undefined ? {} : { expires: this.expires }) };
    const tokens = await this.#manager.bindAll(file, ranges, {
      mode,
      path,
      ...life,
      closeBound: hold !== undefined,
      together: this.#together,
    });
    // What the file does not have (its last block cut off) are zeros behind the token's end.
    for (const [index, { offset, length }] of extents.entries()) {
      const token = tokens[index]?.token;
      const bound = tokens[index]?.length ?? 0;
      const place = { file, fileOffset: ranges[index]?.offset ?? 0 };
      if (token && bound > 0) this.#bound.push({ token, offset, length: bound, place });
      if (bound < length)
        this.#bound.push({ token: ZERO_TOKEN, offset: offset + bound, length: length - bound });
    }
  }

  inOrder(): BoundRange[] {
    return this.#bound.sort((a, b) => a.offset - b.offset);
  }

  /** Keeps the tokens alive during work on their data, which may take longer than they may lie unused. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    const unpins = this.#bound.map(({ token }) => this.#manager.pin(token));
    const watch = watchTokens(this.#host, this.#manager, {});
    try {
      return await work();
    } finally {
      await watch.stop();
      for (const unpin of unpins) unpin();
    }
  }

  /** What is bound to data, in the order of the disk. */
  data(): BoundData[] {
    return this.inOrder().flatMap(({ place, ...range }) => (place ? [{ ...range, ...place }] : []));
  }

  async revoke(): Promise<void> {
    for (const { token } of this.#bound) await this.#manager.revoke(token).catch(() => undefined);
  }
}

function resultOf(
  { path, output, mode = 'change-vulnerable', ttl = DEFAULT_TTL, priority = 0, hold }: TokenReadOptions,
  { offset, length }: ByteRange,
  bound: BoundRanges,
  beside: string | undefined,
  { tokens: auxiliary, hashBlock, sums }: MadeAuxiliary,
): TokenReadResult {
  return {
    path,
    output,
    ranges: beside ?? null,
    offset,
    length,
    mode,
    ttl,
    expires: bound.expires ?? null,
    priority,
    held: hold !== undefined,
    tokens: bound.inOrder().map(({ token, offset, length }) => {
      const id = inspectToken(token)?.id || null;
      return { id, state: id ? ('data' as const) : ('zero' as const), offset, length };
    }),
    auxiliary: auxiliary.length,
    hashBlock: hashBlock ?? null,
    sums: sums ? sumsPath(output) : null,
  };
}
