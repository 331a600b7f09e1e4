/**
 * Blocks that are looked for by their SHA-256, and where each was found.
 *
 * Invariants: a block counts as found only by the whole of its hash. Memory is about 60 bytes a block, and
 * there are at most `MAX_HASH_BLOCKS`; what is searched through may have any size. Time does not depend on how many
 * blocks are alike.
 */
import { assert } from '../../base/assert.js';
import type { ByteRange } from '../../io/random-access-file.js';
import type { AuxiliaryFields } from './auxiliary-codec.js';
import { blockAt, blockRange, wholeBlocks } from './block-grid.js';

const HASH_BYTES = 32;
/** More hashed blocks than this would take too much memory where they are looked for. */
export const MAX_HASH_BLOCKS = 2 ** 21;

/** A range of what tokens stand for, with its hash token. Ranges are in order and do not overlap. */
export interface HashedRange extends ByteRange {
  fields: AuxiliaryFields;
  /** Where the range begins within the token's data. */
  tokenOffset: number;
}

/** A block; `offset` counts as those of the ranges do. */
export interface Block extends ByteRange {
  /** Within the map. */
  number: number;
}

/** Where a block was found: a number that the caller gave, and an offset there. */
export interface Finding {
  source: number;
  offset: number;
}

interface Entry {
  range: HashedRange;
  /** Number in the map of the range's first whole block. */
  base: number;
  first: number;
  end: number;
}

/** How many blocks a map of the ranges would have. */
export function countBlocks(ranges: Iterable<HashedRange>): number {
  let count = 0;
  for (const range of ranges) {
    const { first, end } = blocksOf(range);
    count += end - first;
  }
  return count;
}

function blocksOf({ fields, tokenOffset, length }: HashedRange): { first: number; end: number } {
  return wholeBlocks(fields, tokenOffset, tokenOffset + length);
}

export class BlockMap {
  readonly #entries: Entry[] = [];
  readonly #entryOf = new Map<HashedRange, Entry>();
  readonly #digests: Buffer;
  /** Found where: 0 is nowhere, others are one more than the source's number. */
  readonly #sources: Uint16Array;
  readonly #offsets: Float64Array;
  /** First block of each bucket, by the first bytes of the hash, and the next one in the same; -1: none. */
  readonly #buckets: Int32Array;
  readonly #next: Int32Array;
  readonly count: number;
  #missing: number;

  /** @param ranges with at most `MAX_HASH_BLOCKS` blocks (`countBlocks`) */
  constructor(ranges: readonly HashedRange[]) {
    assert(countBlocks(ranges) <= MAX_HASH_BLOCKS, 'a map of blocks is bounded');
    let count = 0;
    for (const range of ranges) {
      const { first, end } = blocksOf(range);
      const entry = { range, base: count, first, end };
      if (end > first) this.#entries.push(entry);
      this.#entryOf.set(range, entry);
      count += end - first;
    }
    this.count = count;
    this.#missing = count;
    this.#digests = Buffer.alloc(count * HASH_BYTES);
    this.#sources = new Uint16Array(count);
    this.#offsets = new Float64Array(count);
    this.#next = new Int32Array(count).fill(-1);
    this.#buckets = new Int32Array(2 ** Math.ceil(Math.log2(count + 2))).fill(-1);
  }

  /** How many blocks were not found yet. */
  get missing(): number {
    return this.#missing;
  }

  /** Takes in the hashes of all blocks. */
  async load(read: (range: HashedRange, first: number, end: number) => Promise<Uint8Array>): Promise<void> {
    for (const { range, base, first, end } of this.#entries)
      this.#digests.set(await read(range, first, end), base * HASH_BYTES);
    for (let number = 0; number < this.count; number += 1) {
      const bucket = this.#bucketOf(this.#digests, number * HASH_BYTES);
      this.#next[number] = this.#buckets[bucket] as number;
      this.#buckets[bucket] = number;
    }
  }

  #bucketOf(digest: Buffer, at: number): number {
    return digest.readUInt32LE(at) & (this.#buckets.length - 1);
  }

  digest(number: number): Uint8Array {
    return this.#digests.subarray(number * HASH_BYTES, (number + 1) * HASH_BYTES);
  }

  /** Every block of a range, in order. */
  *blocks(wanted: HashedRange): Generator<Block> {
    const entry = this.#entryOf.get(wanted);
    if (!entry) return;
    for (let index = entry.first; index < entry.end; index += 1) yield this.#block(entry, index);
  }

  #block({ range, base, first }: Entry, index: number): Block {
    const { offset, length } = blockRange(range.fields, index);
    return { number: base + index - first, offset: offset - range.tokenOffset + range.offset, length };
  }

  /** The block that holds an offset; undefined between blocks. */
  at(offset: number): Block | undefined {
    let low = 0;
    let high = this.#entries.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#entries[middle] as Entry).range.offset <= offset) low = middle;
      else high = middle - 1;
    }
    const entry = this.#entries[low];
    if (!entry || offset < entry.range.offset || offset >= entry.range.offset + entry.range.length)
      return undefined;
    const { range, first, end } = entry;
    const index = blockAt(range.fields, range.tokenOffset + offset - range.offset);
    return index >= first && index < end ? this.#block(entry, index) : undefined;
  }

  found(number: number): Finding | undefined {
    const source = this.#sources[number] as number;
    return source === 0 ? undefined : { source: source - 1, offset: this.#offsets[number] as number };
  }

  /** Notes where a block is. What was found first stays. */
  note(number: number, { source, offset }: Finding): void {
    assert(source < 0xffff, 'a source has a small number');
    if (this.#sources[number] !== 0) return;
    this.#sources[number] = source + 1;
    this.#offsets[number] = offset;
    this.#missing -= 1;
  }

  /** Notes it for all blocks with this hash that were not found yet. */
  noteAll(digest: Uint8Array, finding: Finding): void {
    const wanted = Buffer.from(digest.buffer, digest.byteOffset, digest.length);
    const bucket = this.#bucketOf(wanted, 0);
    let before = -1;
    let next: number;
    for (let number = this.#buckets[bucket] as number; number >= 0; number = next) {
      next = this.#next[number] as number;
      const at = number * HASH_BYTES;
      if (this.#digests.compare(wanted, 0, HASH_BYTES, at, at + HASH_BYTES) !== 0) {
        before = number;
        continue;
      }
      this.note(number, finding);
      // Out of the bucket: disks are full of blocks that are alike, and nobody has to look at these again.
      if (before < 0) this.#buckets[bucket] = next;
      else this.#next[before] = next;
    }
  }

  /** Sizes of blocks of which some were not found. */
  missingSizes(): number[] {
    const sizes = new Set<number>();
    for (const { range, base, first, end } of this.#entries) {
      if (sizes.has(range.fields.blockSize)) continue;
      if (this.#sources.subarray(base, base + end - first).includes(0)) sizes.add(range.fields.blockSize);
    }
    return [...sizes];
  }
}
