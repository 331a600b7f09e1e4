/**
 * From a stream of bytes into a disk: the part that all conversions of streams share.
 *
 * Invariants: one block of the stream is in memory at a time; runs of zeros are not written where the
 * target reads as zeros anyway. A stream that is longer or shorter than it was said to be is an error.
 */
import { KiB, MiB } from '../../base/bytes.js';
import { throwIfAborted, VhdkitError } from '../../base/errors.js';
import { nonZeroRuns } from '../../base/zeros.js';
import type { PreparedWrite } from '../../block/extent.js';
import { putBytes } from '../../block/put-bytes.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { TransferTarget } from '../../offload/transfer-types.js';

/** What messages call the stream that is read. */
export const INPUT_NAME = 'stdin';

const BLOCK = MiB;
/** Granularity in which the stream is searched for zeros, as everywhere. */
const ZERO_CHUNK = 64 * KiB;

export interface Filled {
  /** Bytes of the stream. */
  length: number;
  /** Of them, bytes that were written. */
  written: number;
}

export interface FillOptions {
  /** Bytes that the stream must have. */
  expected?: number | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((done: number) => void) | undefined;
}

/** The first bytes of a stream, and all of it. */
export interface Peeked {
  /** As many as asked for, or all there are. */
  head: Uint8Array;
  /** The stream from its start. */
  stream: AsyncGenerator<Uint8Array>;
  /** Lets go of the stream, whether or not it was read. */
  close(): Promise<void>;
}

/** Looks at the first bytes of a stream: at least `length`, if it has them. */
export async function peek(input: AsyncIterable<Uint8Array>, length: number): Promise<Peeked> {
  const iterator = input[Symbol.asyncIterator]();
  const chunks: Uint8Array[] = [];
  for (let count = 0; count < length; ) {
    const step = await iterator.next();
    if (step.done) break;
    chunks.push(step.value.slice());
    count += step.value.length;
  }
  const head = Buffer.concat(chunks);
  async function* all(): AsyncGenerator<Uint8Array> {
    yield head;
    for (let step = await iterator.next(); !step.done; step = await iterator.next()) yield step.value;
  }
  return {
    head,
    stream: all(),
    async close() {
      await iterator.return?.();
    },
  };
}

/** The stream in blocks of 1 MiB, the last one shorter. A block is valid until the next step. */
export async function* streamBlocks(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const block = new Uint8Array(BLOCK);
  let filled = 0;
  for await (const chunk of input) {
    for (let at = 0; at < chunk.length; ) {
      const count = Math.min(BLOCK - filled, chunk.length - at);
      block.set(chunk.subarray(at, at + count), filled);
      at += count;
      filled += count;
      if (filled < BLOCK) continue;
      yield block;
      filled = 0;
    }
  }
  if (filled > 0) yield block.subarray(0, filled);
}

/**
 * Calls `take` for each block of the stream and checks its length.
 * @throws INVALID_ARGUMENT (longer than expected), IO_FAILED (empty, or shorter than expected), CANCELLED
 */
export async function eachBlock(
  input: AsyncIterable<Uint8Array>,
  options: FillOptions,
  take: (block: Uint8Array, offset: number) => Promise<void>,
): Promise<number> {
  const { expected } = options;
  let length = 0;
  for await (const block of streamBlocks(input)) {
    throwIfAborted(options.signal, `read ${INPUT_NAME}`);
    if (expected !== undefined && length + block.length > expected) throw tooLong(expected);
    await take(block, length);
    length += block.length;
    options.onProgress?.(length);
  }
  throwIfAborted(options.signal, `read ${INPUT_NAME}`);
  if (length === 0) throw ended('gave no bytes', 'Check the command in front of the pipe.', 0, expected);
  if (expected !== undefined && length < expected) {
    const hint = 'Whatever writes it stopped early: check it, or correct --size.';
    throw ended(`ended after ${length} bytes, but --size says ${expected}`, hint, length, expected);
  }
  return length;
}

/** Writes the stream to the target from offset 0 on, leaving out zeros. Throws as `eachBlock` does. */
export async function fill(
  input: AsyncIterable<Uint8Array>,
  target: TransferTarget,
  options: FillOptions,
): Promise<Filled> {
  let written = 0;
  const length = await eachBlock(input, options, async (block, offset) => {
    let done = 0;
    for (const { start, end } of nonZeroRuns(block, ZERO_CHUNK)) {
      await clear(target, offset + done, start - done);
      await putBytes(target, offset + start, block.subarray(start, end));
      written += end - start;
      done = end;
    }
    await clear(target, offset + done, block.length - done);
  });
  return { length, written };
}

/** A file whose offsets are the stream's. */
export function plainTarget(file: RandomAccessFile): TransferTarget {
  return {
    file,
    unwrittenIsZero: file.kind !== 'device',
    async prepareWrite(offset, length): Promise<PreparedWrite> {
      const places = [{ offset, length, file, fileOffset: offset }];
      return { places, commit: async () => {}, abort: async () => {} };
    },
  };
}

async function clear(target: TransferTarget, offset: number, length: number): Promise<void> {
  if (target.unwrittenIsZero || length === 0) return;
  const prepared = await target.prepareWrite(offset, length);
  for (const place of prepared.places) await place.file.zero(place.fileOffset, place.length);
  await prepared.commit();
}

function tooLong(expected: number): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', `${INPUT_NAME} is longer than the ${expected} bytes of --size`, {
    operation: `read ${INPUT_NAME}`,
    context: { length: expected },
    hint: 'Give its real size, or leave --size out.',
  });
}

function ended(what: string, hint: string, length: number, expected: number | undefined): VhdkitError {
  return new VhdkitError('IO_FAILED', `${INPUT_NAME} ${what}`, {
    operation: `read ${INPUT_NAME}`,
    context: { length, ...(expected === undefined ? {} : { expected }) },
    hint,
  });
}
