/**
 * `compare`: do two disks hold the same bytes?
 *
 * Content beyond the end of the shorter disk must be zero. With `strict` the sizes must be equal too, and
 * every range must be stored, or not stored, on both sides.
 *
 * Ranges that are holes on both sides are not read.
 */
import {
  type ErrorDetails,
  fromSystemError,
  isVhdkitError,
  throwIfAborted,
  VhdkitError,
} from '../base/errors.js';
import { type ChainExtent, walkExtents } from '../block/extent.js';
import type { Chain } from '../formats/chain.js';
import type { FormatId } from '../formats/disk-image.js';
import { readDisk } from '../formats/image-reader.js';
import type { Host, ProgressSink } from './host.js';
import { openWholeChain } from './whole-chain.js';

const CHUNK = 1024 * 1024;

export interface CompareOptions {
  a: string;
  b: string;
  formatA?: FormatId;
  formatB?: FormatId;
  strict?: boolean;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

export interface Difference {
  /** Byte offset on the disk. */
  offset: number;
  kind: 'content' | 'size' | 'allocation';
  message: string;
}

export interface CompareResult {
  same: boolean;
  firstDifference?: Difference;
}

export type CompareStage = 'open' | 'allocation' | 'read';

/** A failure of the comparison itself; `stage` decides the exit code. */
export class CompareError extends VhdkitError {
  readonly stage: CompareStage;

  constructor(stage: CompareStage, cause: VhdkitError) {
    const details: ErrorDetails = { context: cause.context, cause };
    if (cause.operation) details.operation = cause.operation;
    if (cause.hint) details.hint = cause.hint;
    super(cause.code, cause.message, details);
    this.stage = stage;
  }
}

async function inStage<T>(stage: CompareStage, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (isVhdkitError(error) && error.code === 'CANCELLED') throw error;
    if (error instanceof Error && error.name === 'BugError') throw error;
    throw new CompareError(stage, fromSystemError(error, 'compare', {}));
  }
}

/** A range over which both sides answer with one extent each. Past the end of a disk there is no extent. */
interface Pair {
  offset: number;
  length: number;
  a: ChainExtent | undefined;
  b: ChainExtent | undefined;
}

async function* walk(chain: Chain): AsyncGenerator<ChainExtent, undefined> {
  yield* walkExtents(chain, { offset: 0, length: chain.virtualSize });
  return undefined;
}

/** Walks both disks side by side, cutting at every extent boundary of either. */
async function* pairs(a: Chain, b: Chain): AsyncGenerator<Pair> {
  const walkA = walk(a);
  const walkB = walk(b);
  const end = Math.max(a.virtualSize, b.virtualSize);
  let extentA = (await walkA.next()).value;
  let extentB = (await walkB.next()).value;
  for (let at = 0; at < end; ) {
    const endA = extentA ? extentA.offset + extentA.length : end;
    const endB = extentB ? extentB.offset + extentB.length : end;
    const stop = Math.min(endA, endB);
    yield { offset: at, length: stop - at, a: extentA, b: extentB };
    at = stop;
    if (extentA && endA === at) extentA = (await walkA.next()).value;
    if (extentB && endB === at) extentB = (await walkB.next()).value;
  }
}

class ContentComparer {
  readonly #a: Chain;
  readonly #b: Chain;
  readonly #bufferA = Buffer.alloc(CHUNK);
  readonly #bufferB = Buffer.alloc(CHUNK);

  constructor(a: Chain, b: Chain) {
    this.#a = a;
    this.#b = b;
  }

  /** Offset of the first byte that differs in the range, or undefined. */
  async firstDifference(
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<number | undefined> {
    for (let done = 0; done < length; done += CHUNK) {
      throwIfAborted(signal, 'compare');
      const count = Math.min(CHUNK, length - done);
      const at = offset + done;
      const a = this.#bufferA.subarray(0, count);
      const b = this.#bufferB.subarray(0, count);
      await Promise.all([this.#load(this.#a, a, at), this.#load(this.#b, b, at)]);
      if (a.equals(b)) continue;
      let index = 0;
      while (a[index] === b[index]) index += 1;
      return at + index;
    }
    return undefined;
  }

  async #load(chain: Chain, buffer: Buffer, offset: number): Promise<void> {
    const inside = Math.max(0, Math.min(buffer.length, chain.virtualSize - offset));
    if (inside > 0) await readDisk(chain, buffer.subarray(0, inside), offset);
    if (inside < buffer.length) buffer.fill(0, inside);
  }
}

const stored = (extent: ChainExtent | undefined): boolean => extent?.state === 'data';

async function firstDifference(a: Chain, b: Chain, options: CompareOptions): Promise<Difference | undefined> {
  const { strict, signal, progress } = options;
  if (strict && a.virtualSize !== b.virtualSize) {
    const message = `the disks have ${a.virtualSize} and ${b.virtualSize} bytes`;
    return { offset: Math.min(a.virtualSize, b.virtualSize), kind: 'size', message };
  }
  const total = Math.max(a.virtualSize, b.virtualSize);
  const comparer = new ContentComparer(a, b);
  const walker = pairs(a, b);
  for (;;) {
    const step = await inStage('allocation', () => walker.next());
    if (step.done) return undefined;
    const pair = step.value;
    throwIfAborted(signal, 'compare');
    if (strict && stored(pair.a) !== stored(pair.b)) {
      const message = `stored in ${stored(pair.a) ? 'the first' : 'the second'} disk only`;
      return { offset: pair.offset, kind: 'allocation', message };
    }
    if (stored(pair.a) || stored(pair.b)) {
      const at = await inStage('read', () => comparer.firstDifference(pair.offset, pair.length, signal));
      if (at !== undefined)
        return { offset: at, kind: 'content', message: `the contents differ at offset ${at}` };
    }
    progress?.update(pair.offset + pair.length, total);
  }
}

/** @throws CompareError with the stage that failed; CANCELLED */
export async function compare(host: Host, options: CompareOptions): Promise<CompareResult> {
  const open = (path: string, format: FormatId | undefined): Promise<Chain> =>
    inStage('open', () => openWholeChain(host, path, format ? { format } : {}));
  const a = await open(options.a, options.formatA);
  try {
    const b = await open(options.b, options.formatB);
    try {
      const difference = await firstDifference(a, b, options);
      return difference ? { same: false, firstDifference: difference } : { same: true };
    } finally {
      await b.close();
    }
  } finally {
    await a.close();
  }
}
