/**
 * What a merge has to bring over: data, zeros, and holes of files cut at sectors.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Chain } from '../../../../src/formats/chain.js';
import type { DiskImage } from '../../../../src/formats/disk-image.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { mergeRuns, type Run, survey } from '../../../../src/operations/merge/runs.js';

const KiB = 1024;
/** Of the file's data against the disk. */
const SHIFT = 12 * KiB;
const SIZE = 2048 * KiB;

/** A file that stores exactly these ranges, in bytes. */
class Sparse extends MemoryFile {
  readonly #stored: readonly (readonly [number, number])[];

  constructor(stored: readonly (readonly [number, number])[]) {
    super(new Uint8Array(0), 'sparse');
    this.#stored = stored;
  }

  override nextData(offset: number, end: number): { offset: number; length: number } | undefined {
    for (const [from, to] of this.#stored) {
      const start = Math.max(from, offset);
      const stop = Math.min(to, end);
      if (start < stop) return { offset: start, length: stop - start };
    }
    return undefined;
  }
}

function chainOver(file: Sparse, logicalSectorSize: number): Chain {
  const image = {
    virtualSize: SIZE,
    logicalSectorSize,
    file,
    locate: async (offset: number, length: number) => [
      { state: 'data', offset, length, file, fileOffset: offset + SHIFT },
    ],
  };
  return new Chain([image as unknown as DiskImage]);
}

async function runsOf(chain: Chain): Promise<Run[]> {
  const runs: Run[] = [];
  for await (const run of mergeRuns(chain)) runs.push(run);
  return runs;
}

describe('the runs of a file with holes', () => {
  it('cover the disk in whole sectors; only what the file does not store is zero', async () => {
    const ranges = fc.array(fc.integer({ min: 0, max: SIZE / KiB }), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(ranges, fc.constantFrom(512, 4096), async (places, sectorSize) => {
        const edges = [...new Set(places)].sort((a, b) => a - b);
        const stored: [number, number][] = [];
        for (let each = 0; each + 1 < edges.length; each += 2) {
          stored.push([(edges[each] ?? 0) * KiB + SHIFT, (edges[each + 1] ?? 0) * KiB + SHIFT]);
        }
        const chain = chainOver(new Sparse(stored), sectorSize);
        let at = 0;
        let zeros = 0;
        for (const run of await runsOf(chain)) {
          expect(run.offset).toBe(at);
          expect(run.offset % sectorSize).toBe(0);
          expect(run.length % sectorSize).toBe(0);
          at += run.length;
          if (run.state === 'data') expect(run.fileOffset).toBe(run.offset + SHIFT);
          else {
            zeros += run.length;
            expect(run.length).toBeGreaterThanOrEqual(64 * KiB);
            const [from, to] = [run.offset + SHIFT, run.offset + run.length + SHIFT];
            expect(stored.filter((range) => range[0] < to && from < range[1])).toEqual([]);
          }
        }
        expect(at).toBe(SIZE);
        expect(await survey(chain, undefined)).toEqual({ payload: SIZE - zeros, zeros });
      }),
      { numRuns: 300 },
    );
  });

  it('end when they are cancelled', async () => {
    const chain = chainOver(new Sparse([[0, SIZE]]), 512);
    await expect(survey(chain, AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
