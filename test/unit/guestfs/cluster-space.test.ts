/**
 * Free space counted in clusters: large bitmaps in pieces, and a disk that changes between judging and reading.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allUsed, countUsed, freeRuns, tailIsSet } from '../../../src/guestfs/bitmap-ranges.js';
import { freeClusterSpace } from '../../../src/guestfs/cluster-space.js';
import { MAX_READ, PAGE_BYTES, PagedBytes, volumeBytes } from '../../../src/guestfs/volume-bytes.js';
import { reader } from './disks.js';

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe('bitmaps', () => {
  it('agree with looking at each bit', async () => {
    const bitmaps = fc.array(fc.constantFrom(0, 255, 0xf0, 1, 0x80, 0x5a), { minLength: 1, maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(bitmaps, fc.nat(7), async (bytes, short) => {
        const bitmap = Uint8Array.from(bytes);
        const bits = bytes.length * 8 - short;
        const isUsed = (bit: number) => (((bitmap[bit >> 3] ?? 0) >> (bit & 7)) & 1) === 1;
        const all = [...Array(bytes.length * 8).keys()];
        const free = all.filter((bit) => bit < bits && !isUsed(bit));
        const runs = await collect(freeRuns(reader(bitmap), bits));
        expect(runs.flatMap(({ start, count }) => all.slice(start, start + count))).toEqual(free);
        expect(runs.every((run, index) => run.start > (runs[index - 1]?.start ?? -2) + 1)).toBe(true);
        expect(await countUsed(reader(bitmap), bits)).toBe(bits - free.length);
        const tail = all.slice(bits).every(isUsed);
        expect(await tailIsSet(reader(bitmap), bits, bitmap.length)).toBe(tail);
      }),
      { seed: 3, numRuns: 200 },
    );
  });

  it('are joined where pieces and pages meet', async () => {
    const bitmap = new Uint8Array(MAX_READ + 100).fill(0xff);
    bitmap.fill(0, MAX_READ - 3, MAX_READ + 2);
    expect(await collect(freeRuns(reader(bitmap), bitmap.length * 8))).toEqual([
      { start: (MAX_READ - 3) * 8, count: 40 },
    ]);
    const pages = new PagedBytes(reader(bitmap), bitmap.length);
    const near = (start: number, count: number) => allUsed(pages, { start, count });
    expect(await near(PAGE_BYTES * 8 - 5, 10)).toBe(true);
    expect(await near((MAX_READ - 3) * 8 - 20, 20)).toBe(true);
    expect(await near((MAX_READ - 3) * 8 - 20, 21)).toBe(false);
    expect(await near((MAX_READ + 2) * 8 - 1, 2)).toBe(false);
    expect(await near((MAX_READ + 2) * 8, 98 * 8)).toBe(true);
  });
});

describe('reads inside a volume', () => {
  it('never leave it, and are never large', async () => {
    const read = volumeBytes(reader(new Uint8Array(4 * MAX_READ)), { offset: 512, length: 3 * MAX_READ });
    for (const [offset, length] of [
      [-1, 1],
      [3 * MAX_READ, 1],
      [3 * MAX_READ - 1, 2],
      [0, MAX_READ + 1],
      [Number.NaN, 1],
    ] as const)
      await expect(read(offset, length)).rejects.toThrow('contradicts itself');
    expect(await read(3 * MAX_READ - 1, 1)).toHaveLength(1);
  });
});

describe('a walk that does not come to what was judged', () => {
  const space = (freeClusters: number) => {
    const answer = freeClusterSpace({
      kind: 'ntfs',
      volume: { offset: 1000, length: 10_000, name: 'x' },
      firstCluster: 100,
      clusterBytes: 512,
      freeClusters,
      runs: () => freeRuns(reader(Uint8Array.of(0b11100111, 0b11110000)), 12),
    });
    if (answer.status !== 'free') throw new Error('kept');
    return collect(answer.space.ranges());
  };
  it('fails', async () => {
    expect(await space(6)).toEqual([
      { offset: 1000 + 100 + 3 * 512, length: 1024 },
      { offset: 1000 + 100 + 8 * 512, length: 2048 },
    ]);
    await expect(space(5)).rejects.toThrow('changed while it was read');
    await expect(space(7)).rejects.toThrow('changed while it was read');
  });
});
