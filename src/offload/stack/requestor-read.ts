/**
 * The requestor's side of reading: tokens for all of a range, however providers split it.
 *
 * A provider may answer with several tokens, and for less than it was asked for; the loop goes on from there.
 * What several providers offer is put together: each part of the set has a token of everyone who offers it.
 *
 * Invariants: what the set stands for is what the range has, from its start on; only the end of a file makes
 * it shorter. A token stands for no byte that was not asked for. An answer without progress is an error
 * after STALL_LIMIT of them, never an endless loop.
 *
 * Each read is a moment of its own: persistent tokens of a range that was split may be of different moments.
 * Tokens of a read that failed half-way expire by themselves.
 */
import { BugError } from '../../base/assert.js';
import { isVhdkitError, throwIfAborted, VhdkitError } from '../../base/errors.js';
import { type DataExtent, type Extent, type Locator, walkExtents } from '../../block/extent.js';
import type { ByteRange, RandomAccessFile } from '../../io/random-access-file.js';
import type { OffloadProvider, OffloadReadOptions } from '../offload-provider.js';
import type { TokenMode } from '../token.js';
import { ZERO_TOKEN } from '../token-codec.js';
import { type NewPart, TokenSet } from '../token-set.js';
import { assertWithin } from '../token-set-model.js';
import { type ProviderStack, tokensOf } from './provider-stack.js';

/** So often the same progress is a failure. */
export const STALL_LIMIT = 4;

/** The name under which zeros go into a set. */
export const ZEROS = 'zero';

export interface ReadAllOptions {
  mode: Exclude<TokenMode, 'zero'>;
  /** Inactivity time-out in milliseconds; 0 or absent takes each manager's default. */
  ttl?: number;
  /** Tokens of this member only. Default: of all that make tokens. */
  id?: string;
  signal?: AbortSignal;
}

/**
 * Tokens for a range of a file.
 * @returns a set as long as the range, or up to the end of the file
 * @throws OUT_OF_RANGE (starts behind the end), UNSUPPORTED (nobody makes such tokens; too many of them),
 *   OFFLOAD_UNSUPPORTED (no progress), CANCELLED, and what the providers throw
 */
export async function offloadReadAll(
  stack: ProviderStack,
  file: RandomAccessFile,
  range: ByteRange,
  options: ReadAllOptions,
): Promise<TokenSet> {
  const offers: TokenSet[] = [];
  let refusal: unknown;
  for (const member of stack.readers(options.id)) {
    try {
      const parts = await readLoop(tokensOf(member), member.provider, file, range, options);
      offers.push(TokenSet.of(parts));
    } catch (error) {
      if (!isVhdkitError(error) || !OTHERS_MAY.has(error.code)) throw error;
      refusal ??= error;
    }
  }
  if (offers.length === 0) throw refusal;
  return TokenSet.overlay(offers);
}

/** Reasons for which another provider may still have a token. */
const OTHERS_MAY: ReadonlySet<string> = new Set(['UNSUPPORTED', 'OFFLOAD_UNSUPPORTED']);

/** Asks one provider until it has offered everything, or the file ends. */
async function readLoop(
  name: string,
  provider: OffloadProvider,
  file: RandomAccessFile,
  range: ByteRange,
  { mode, ttl = 0, signal }: ReadAllOptions,
): Promise<NewPart[]> {
  const parts: NewPart[] = [];
  const end = range.offset + range.length;
  const options: OffloadReadOptions = { mode, ttl };
  let at = range.offset;
  for (let stalls = 0; at < end && at !== file.size(); ) {
    throwIfAborted(signal, 'offload read');
    const before = at;
    for (const bound of await provider.offloadRead(file, { offset: at, length: end - at }, options)) {
      if (bound.offset !== at || bound.length < 0 || at + bound.length > end) {
        throw new BugError(`a provider answers with ${bound.offset}+${bound.length} to ${at}`);
      }
      if (bound.length === 0) continue;
      const choice = { provider: name, token: bound.token, tokenOffset: bound.tokenOffset ?? 0 };
      parts.push({ length: bound.length, choices: [choice] });
      at += bound.length;
    }
    assertWithin(parts.length, 'tokens');
    stalls = at > before ? 0 : stalls + 1;
    if (stalls === STALL_LIMIT) throw stalled(name, file, at, end);
  }
  return parts;
}

function stalled(name: string, file: RandomAccessFile, at: number, end: number): VhdkitError {
  return new VhdkitError('OFFLOAD_UNSUPPORTED', `${name} makes no token for ${file.path} from ${at} on`, {
    operation: 'offload read',
    context: { path: file.path, offset: at, length: end - at, provider: name },
    hint: `It was asked ${STALL_LIMIT} times. Read this range through another provider.`,
  });
}

/**
 * Tokens for a range of a disk whose bytes lie in several places: a chain of images, a striped disk.
 *
 * What lies in one run of a file needs one token, wherever on the disk it appears. Zeros, and what a file
 * does not have behind its end, are zero tokens.
 * @returns a set as long as the range
 * @throws what `offloadReadAll` and `locate` throw; INVALID_ARGUMENT where a parent was left out
 */
export async function offloadReadDisk(
  stack: ProviderStack,
  disk: Locator,
  range: ByteRange,
  options: ReadAllOptions,
): Promise<TokenSet> {
  const extents: Extent[] = [];
  for await (const extent of walkExtents(disk, range)) {
    throwIfAborted(options.signal, 'offload read');
    if (extent.state === 'absent') throw withoutParent(extent);
    extents.push(extent);
    assertWithin(extents.length, 'parts');
  }
  const files = new Map<RandomAccessFile, DataExtent[]>();
  for (const extent of extents) {
    if (extent.state !== 'data') continue;
    const list = files.get(extent.file);
    if (list) list.push(extent);
    else files.set(extent.file, [extent]);
  }
  const bound = new Map<Extent, NewPart[]>();
  let tokens = 0;
  for (const [file, list] of files) {
    for (const run of runsOf(list)) {
      tokens += 1;
      assertWithin(tokens, 'tokens');
      const set = await offloadReadAll(stack, file, run, options);
      for (const extent of run.extents)
        bound.set(extent, partsOf(set, extent, extent.fileOffset - run.offset));
    }
  }
  return TokenSet.of(extents.flatMap((extent) => bound.get(extent) ?? zeros(extent.length)));
}

function withoutParent({ offset, length }: ByteRange): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', `${length} bytes from ${offset} on are in a parent`, {
    operation: 'offload read',
    context: { offset, length },
    hint: 'Open the chain with its parents.',
  });
}

interface FileRun extends ByteRange {
  extents: DataExtent[];
}

/** The runs of a file that extents cover; extents that touch or overlap in the file are one run. */
function runsOf(extents: readonly DataExtent[]): FileRun[] {
  const sorted = [...extents].sort((a, b) => a.fileOffset - b.fileOffset);
  const runs: FileRun[] = [];
  for (const extent of sorted) {
    const last = runs.at(-1);
    const end = extent.fileOffset + extent.length;
    if (last && extent.fileOffset <= last.offset + last.length) {
      last.extents.push(extent);
      last.length = Math.max(last.length, end - last.offset);
    } else {
      runs.push({ offset: extent.fileOffset, length: extent.length, extents: [extent] });
    }
  }
  return runs;
}

/** An extent's parts of the set for its run; zeros where the file ended before. */
function partsOf(set: TokenSet, { length }: ByteRange, at: number): NewPart[] {
  const stored = Math.max(0, Math.min(length, set.length - at));
  if (stored === 0) return zeros(length);
  const parts: NewPart[] = set.partsWithin(at, stored);
  return stored === length ? parts : [...parts, ...zeros(length - stored)];
}

function zeros(length: number): NewPart[] {
  return [{ length, choices: [{ provider: ZEROS, token: ZERO_TOKEN, tokenOffset: 0 }] }];
}

/** Bounds for the tokens of a provider. */
export interface ReadLimits {
  /** Bytes that one token stands for at most. */
  maxLength?: number;
  /** No token crosses a multiple of this, counted from the start of the file, in bytes. */
  boundary?: number;
}

/** The provider, with tokens for short ranges only: requestors have to ask more often. */
export function withReadLimits(
  provider: OffloadProvider,
  { maxLength = Number.MAX_SAFE_INTEGER, boundary = Number.MAX_SAFE_INTEGER }: ReadLimits,
): OffloadProvider {
  return {
    id: provider.id,
    capabilities: (source, target) => provider.capabilities(source, target),
    offloadRead(file, { offset, length }, options) {
      const most = Math.min(length, maxLength, boundary - (offset % boundary));
      return provider.offloadRead(file, { offset, length: most }, options);
    },
    offloadWrite: (request) => provider.offloadWrite(request),
    ...(provider.hold ? { hold: provider.hold.bind(provider) } : {}),
  };
}
