/**
 * Peeking finds exactly the chunks that hold other bytes than zero, whatever happens to be in memory.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isZero } from '../../../src/base/zeros.js';
import { MemoryFile } from '../../../src/io/memory-file.js';
import { BufferPool } from '../../../src/offload/buffer-pool.js';
import { Peeker } from '../../../src/offload/peek.js';
import type { Piece } from '../../../src/offload/pieces.js';
import { ZERO_TOKEN } from '../../../src/offload/token-codec.js';

const CHUNK = 64 * 1024;

/** A memory file of which only some 4 KiB pages can be peeked at. */
class HalfCached extends MemoryFile {
  reads = 0;
  readonly #isCached: (page: number) => boolean;

  constructor(bytes: Uint8Array, isCached: (page: number) => boolean) {
    super(bytes);
    this.#isCached = isCached;
  }

  peek(buffer: Uint8Array, offset: number): boolean {
    if (offset + buffer.length > this.size()) return false;
    for (let page = Math.floor(offset / 4096); page * 4096 < offset + buffer.length; page += 1) {
      if (!this.#isCached(page)) return false;
    }
    buffer.set(this.bytes().subarray(offset, offset + buffer.length));
    return true;
  }

  override read(buffer: Uint8Array, offset: number): Promise<number> {
    this.reads += buffer.length;
    return super.read(buffer, offset);
  }
}

function pieceOf(file: MemoryFile, offset: number, length: number, sourceOffset: number): Piece {
  return { state: 'data', offset, length, sourceOffset, policy: 'peek', source: { file, token: ZERO_TOKEN } };
}

describe('Peeker', () => {
  it('finds the chunks with data, whatever is in memory', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(6 * CHUNK - 1), { maxLength: 6 }),
        fc.nat(3 * CHUNK),
        fc.integer({ min: 1, max: 6 * CHUNK }),
        fc.integer({ min: 1, max: 5 }),
        async (places, offset, length, cachedEvery) => {
          const bytes = new Uint8Array(6 * CHUNK);
          for (const place of places) bytes[place] = 1;
          const file = new HalfCached(bytes, (page) => page % cachedEvery === 0);
          const runs = await new Peeker(CHUNK, new BufferPool(2 * CHUNK, 1)).runs([
            { state: 'zero', offset: 0, length: offset },
            pieceOf(file, offset, length, 0),
          ]);
          const found = new Set<number>();
          for (const run of runs) {
            expect(run.offset).toBeGreaterThanOrEqual(offset);
            expect(run.offset + run.length).toBeLessThanOrEqual(offset + length);
            const last = Math.floor((run.offset + run.length - 1) / CHUNK);
            for (let chunk = Math.floor(run.offset / CHUNK); chunk <= last; chunk += 1) found.add(chunk);
          }
          for (let at = offset; at < offset + length; ) {
            const end = Math.min((Math.floor(at / CHUNK) + 1) * CHUNK, offset + length);
            const zero = isZero(bytes.subarray(at - offset, Math.min(end - offset, bytes.length)));
            expect(found.has(Math.floor(at / CHUNK))).toBe(!zero);
            at = end;
          }
        },
      ),
      // Data in the first and in the last few bytes of a range that begins and ends within a sector.
      { numRuns: 200, examples: [[[0, CHUNK - 290], 300, CHUNK - 100, 1]] },
    );
  });

  it('reads nothing where chunks begin with data that is in memory', async () => {
    const file = new HalfCached(new Uint8Array(6 * CHUNK).fill(7), () => true);
    const runs = await new Peeker(CHUNK, new BufferPool(CHUNK, 1)).runs([pieceOf(file, 0, 6 * CHUNK, 0)]);
    expect(runs).toEqual([{ offset: 0, length: 6 * CHUNK }]);
    expect(file.reads).toBe(0);
  });

  it('takes what lies past the end of the file for zeros', async () => {
    const file = new HalfCached(new Uint8Array(CHUNK).fill(7), () => false);
    const runs = await new Peeker(CHUNK, new BufferPool(CHUNK, 1)).runs([pieceOf(file, 0, 3 * CHUNK, 0)]);
    expect(runs).toEqual([{ offset: 0, length: CHUNK }]);
  });
});
