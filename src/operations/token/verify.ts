/**
 * `token verify`, and what `token write` does at its end: compares a disk with what tokens say of their data,
 * without reading the data they stand for.
 *
 * Invariants: the image is opened anew and its pages are dropped from memory where the system can do that, so
 * that what is compared is what the storage holds. Whole chunks are compared and zeros that the tokens stand
 * for; an end without an error means that all of these are right. The tokens themselves are not used: their
 * life may be over.
 */
import { VhdkitError } from '../../base/errors.js';
import type { Extent, Locator } from '../../block/extent.js';
import { type Chain, openChain } from '../../formats/chain.js';
import type { FormatId } from '../../formats/disk-image.js';
import { assertInsideDisk } from '../../formats/image-reader.js';
import type { ByteRange } from '../../io/random-access-file.js';
import { nativeCalls } from '../../native/native.js';
import { type CheckedPart, type CheckResult, ChecksumCheck } from '../../offload/auxiliary/checksum-check.js';
import type { TokenStore } from '../../offload/store/token-store.js';
import { contentOf } from '../content-stream.js';
import type { Host, ProgressSink } from '../host.js';
import { AuxiliarySet } from './auxiliary-read.js';
import { type Clipped, type Selection, select } from './content.js';
import { countingRefusal } from './refusals.js';
import { type StoreChoice, withTokens } from './store.js';
import { takeTokens } from './token-file.js';

/** What was compared, in bytes. */
export interface Verified {
  checked: number;
  /** Of these nothing is known: chunks that the range cuts, data whose tokens have no checksums. */
  unchecked: number;
}

/** What a range of a disk is to hold. */
export interface Expectation {
  parts: readonly CheckedPart[];
  length: number;
}

/**
 * What the ranges are to hold, as far as their checksum tokens tell; undefined when there are none.
 * @throws TOKEN_INVALID (a checksum token that is not genuine, sums that are not its own), IO_FAILED
 */
export async function expectationOf(
  auxiliary: AuxiliarySet,
  ranges: readonly Clipped[],
  store: TokenStore,
): Promise<Expectation | undefined> {
  if (!auxiliary.has('checksum')) return undefined;
  await auxiliary.assertGenuine('checksum', store);
  const parts: CheckedPart[] = [];
  let known = false;
  for (const { token, claims, offset, length, tokenOffset } of ranges) {
    const fields = auxiliary.of(token, 'checksum');
    if (claims.mode === 'zero') parts.push({ offset, length, expected: { kind: 'zero' } });
    else if (!fields || fields.length !== claims.length)
      parts.push({ offset, length, expected: { kind: 'unknown' } });
    else {
      const list = await countingRefusal(store, () => auxiliary.list(fields));
      parts.push({ offset, length, expected: { kind: 'sums', fields, list, tokenOffset } });
      known = true;
    }
  }
  const last = parts.at(-1);
  return known && last ? { parts, length: last.offset + last.length } : undefined;
}

/** A part of a disk as a disk. */
function part(chain: Chain, { offset, length }: ByteRange): Locator {
  const shifted = (extent: Extent): Extent => ({ ...extent, offset: extent.offset - offset });
  return {
    virtualSize: length,
    locate: async (at, count) => (await chain.locate(offset + at, count)).map(shifted),
  };
}

interface Comparison {
  target: string;
  format?: FormatId;
  /** Where on the disk the data is to be. */
  offset: number;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

function mismatch(
  { target, offset: base }: Comparison,
  { wrong, first }: CheckResult,
): VhdkitError | undefined {
  if (!first) return undefined;
  const { part: token, chunk, offset, length, expected, found } = first;
  const where = `${length} bytes at offset ${base + offset} of the disk`;
  const [what, should] =
    chunk === undefined
      ? [where, 'are not zeros, which the tokens stand for']
      : [`chunk ${chunk} of range ${token} (${where})`, 'does not have the checksum of the data'];
  const others = wrong > 1 ? `; ${wrong} chunks differ` : '';
  return new VhdkitError('VERIFY_FAILED', `${target}: ${what} ${should}${others}`, {
    operation: 'verify tokens',
    context: {
      path: target,
      reason: 'mismatch',
      offset: base + offset,
      length,
      range: token,
      wrong,
      ...(chunk === undefined ? {} : { chunk }),
      ...(expected === undefined || found === undefined ? {} : { expected, found }),
    },
    hint: 'Do not use the target. Either it was damaged or the source was, after the tokens were made: check the source, read fresh tokens, and write again.',
  });
}

/**
 * Compares a range of a disk with what it is to hold. A failure is counted in the store.
 * @throws VERIFY_FAILED with the first chunk that is wrong and their number, and what opening throws
 */
export async function compareWith(
  host: Host,
  store: TokenStore,
  expectation: Expectation,
  comparison: Comparison,
): Promise<Verified> {
  const { target, format, offset, signal, progress } = comparison;
  const { parts, length } = expectation;
  const chain = await openChain(host.fileSystem, target, format ? { format } : {});
  try {
    assertInsideDisk(chain.virtualSize, offset, length, target);
    const { fd } = chain.top.file;
    if (fd !== undefined) nativeCalls()?.dropPageCache(fd);
    const check = new ChecksumCheck(parts);
    for await (const piece of contentOf(part(chain, { offset, length }), signal)) {
      await check.update(piece.length, piece.bytes);
      progress?.update(piece.offset + piece.length, length);
    }
    const result = check.result();
    const failure = mismatch(comparison, result);
    if (!failure) return { checked: result.checked, unchecked: result.unchecked };
    await store.countRefusal('mismatch').catch(() => undefined);
    throw failure;
  } finally {
    await chain.close();
  }
}

export interface TokenVerifyOptions extends Selection {
  /** The token file. */
  tokens: string;
  /** The image or device that holds the data. */
  target: string;
  format?: FormatId;
  /** Where on the disk the data is. Bytes; default 0. */
  offset?: number;
  store?: StoreChoice;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

export interface TokenVerifyResult {
  tokens: string;
  target: string;
  offset: number;
  length: number;
  verified: Verified;
  elapsedMs: number;
}

/**
 * @throws VERIFY_FAILED, INVALID_ARGUMENT (the tokens have no checksums), TOKEN_INVALID, OUT_OF_RANGE,
 *   TOKEN_STORE_FAILED, CANCELLED, and what opening throws
 */
export async function verifyTokens(host: Host, options: TokenVerifyOptions): Promise<TokenVerifyResult> {
  const started = host.clock.now();
  const { tokens: path, target, offset = 0 } = options;
  return withTokens(host, options.store, async ({ store }) => {
    const { ranges, auxiliary: tokens } = await takeTokens(host, path, store);
    const clipped = select(ranges, options, path);
    const auxiliary = new AuxiliarySet(host, path, tokens, await store.key());
    try {
      const expectation = await expectationOf(auxiliary, clipped, store);
      if (!expectation) throw nothingKnown(path);
      const verified = await compareWith(host, store, expectation, { ...options, offset });
      const { length } = expectation;
      return { tokens: path, target, offset, length, verified, elapsedMs: host.clock.now() - started };
    } finally {
      await auxiliary.close();
    }
  });
}

function nothingKnown(path: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', `${path} has no checksums of its data`, {
    operation: 'verify tokens',
    context: { path },
    hint: 'Make tokens with `vhdkit token read --checksum`.',
  });
}
