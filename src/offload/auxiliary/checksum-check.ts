/**
 * Compares data with the checksums of tokens, and with zeros where a token stands for zeros.
 *
 * Invariants: only whole chunks are judged: of one that is cut, nothing is known. The data comes in order,
 * in pieces of any size, and is looked at once. All chunks are judged, not only those up to the first that
 * is wrong, so that the count of wrong ones says something about what happened.
 */
import { isZero } from '../../base/zeros.js';
import type { ByteRange } from '../../io/random-access-file.js';
import type { AuxiliaryFields } from './auxiliary-codec.js';
import { blockRange, wholeBlocks } from './block-grid.js';
import { BlockSums, CRC32C, ZeroSums } from './block-sums.js';
import type { SumList } from './sums-file.js';

/** Chunks whose sums are in memory at a time: a GiB of data. */
const SUMS_AT_A_TIME = 16_384;

/** A part of what is to be checked; parts follow each other from 0 on. */
export interface CheckedPart extends ByteRange {
  /** `zero`: the data is to be zeros. `sums`: as the checksums say. `unknown`: anything will do. */
  expected:
    | { kind: 'zero' }
    | { kind: 'unknown' }
    | { kind: 'sums'; fields: AuxiliaryFields; list: SumList; tokenOffset: number };
}

/** A chunk that is not what it should be. Bytes count from where the check began. */
export interface WrongChunk extends ByteRange {
  /** Number of the part. */
  part: number;
  /** Number of the chunk within the token's data; undefined for zeros. */
  chunk: number | undefined;
  /** CRC-32C, hexadecimal; undefined for zeros. */
  expected: string | undefined;
  found: string | undefined;
}

export interface CheckResult {
  /** Bytes that were compared. */
  checked: number;
  /** Bytes of which nothing is known: edges of parts that cut chunks, and data without checksums. */
  unchecked: number;
  /** Chunks, or pieces of zeros, that are wrong. */
  wrong: number;
  first: WrongChunk | undefined;
}

/** A run of one kind: what a part falls into. Offsets count from where the check began. */
interface Segment extends ByteRange {
  part: number;
  judge: Judge | undefined;
}

interface Judge {
  update(length: number, bytes: Uint8Array | undefined): void;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

export class ChecksumCheck {
  readonly #parts: readonly CheckedPart[];
  readonly #zeros = new ZeroSums(CRC32C);
  readonly #segments: AsyncGenerator<Segment>;
  #open: Segment | undefined;
  /** Bytes of the open segment that have come. */
  #used = 0;
  readonly #result: CheckResult = { checked: 0, unchecked: 0, wrong: 0, first: undefined };

  constructor(parts: readonly CheckedPart[]) {
    this.#parts = parts;
    this.#segments = this.#walk();
  }

  /** The next piece of the data: bytes, or that many zeros. @throws what reading sums throws */
  async update(length: number, bytes: Uint8Array | undefined): Promise<void> {
    for (let done = 0; done < length; ) {
      while (!this.#open || this.#used === this.#open.length) {
        const step = await this.#segments.next();
        if (step.done) return;
        this.#open = step.value;
        this.#used = 0;
      }
      const count = Math.min(length - done, this.#open.length - this.#used);
      if (this.#open.judge) this.#result.checked += count;
      else this.#result.unchecked += count;
      this.#open.judge?.update(count, bytes?.subarray(done, done + count));
      this.#used += count;
      done += count;
    }
  }

  result(): CheckResult {
    return { ...this.#result };
  }

  #wrong(chunk: WrongChunk): void {
    this.#result.wrong += 1;
    this.#result.first ??= chunk;
  }

  async *#walk(): AsyncGenerator<Segment> {
    for (const [part, { offset, length, expected }] of this.#parts.entries()) {
      if (length === 0) continue;
      if (expected.kind === 'unknown') yield { part, offset, length, judge: undefined };
      else if (expected.kind === 'zero') yield { part, offset, length, judge: this.#zeroJudge(part, offset) };
      else yield* this.#walkSums(part, { offset, length, ...expected });
    }
  }

  async *#walkSums(
    part: number,
    whole: ByteRange & { fields: AuxiliaryFields; list: SumList; tokenOffset: number },
  ): AsyncGenerator<Segment> {
    const { offset, length, fields, list, tokenOffset } = whole;
    // What lies where in the check, from where it lies in the token.
    const shift = offset - tokenOffset;
    const { first, end } = wholeBlocks(fields, tokenOffset, tokenOffset + length);
    let at = offset;
    for (let block = first; block < end; block += SUMS_AT_A_TIME) {
      const stop = Math.min(end, block + SUMS_AT_A_TIME);
      const start = blockRange(fields, block).offset;
      const last = blockRange(fields, stop - 1);
      if (start + shift > at) yield { part, offset: at, length: start + shift - at, judge: undefined };
      const sums = await list.read(block, stop);
      const judge = this.#sumJudge({ part, fields, sums, first: block, shift });
      at = last.offset + last.length + shift;
      yield { part, offset: start + shift, length: at - start - shift, judge };
    }
    if (at < offset + length) yield { part, offset: at, length: offset + length - at, judge: undefined };
  }

  #sumJudge(run: {
    part: number;
    fields: AuxiliaryFields;
    sums: Uint8Array;
    first: number;
    shift: number;
  }): Judge {
    const { part, fields, sums, first, shift } = run;
    const start = blockRange(fields, first).offset;
    const emit = (index: number, sum: Uint8Array): void => {
      const at = (index - first) * CRC32C.bytes;
      const expected = sums.subarray(at, at + CRC32C.bytes);
      if (Buffer.compare(expected, sum) === 0) return;
      const { offset, length } = blockRange(fields, index);
      const sides = { expected: hex(expected), found: hex(sum) };
      this.#wrong({ part, chunk: index, offset: offset + shift, length, ...sides });
    };
    return new BlockSums(fields, CRC32C, this.#zeros, emit, start);
  }

  #zeroJudge(part: number, start: number): Judge {
    let at = start;
    return {
      update: (length, bytes) => {
        const offset = at;
        at += length;
        if (!bytes || isZero(bytes)) return;
        this.#wrong({ part, offset, length, chunk: undefined, expected: undefined, found: undefined });
      },
    };
  }
}
