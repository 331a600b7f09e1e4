import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GiB, MiB } from '../../../../src/base/bytes.js';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { IntervalSet } from '../../../../src/formats/vhdx/interval-set.js';
import { PAGE_LENGTH, PageCache } from '../../../../src/formats/vhdx/page-cache.js';
import { OwnedRanges } from '../../../../src/formats/vhdx/region-table.js';
import { SpaceMap } from '../../../../src/formats/vhdx/space-map.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { batEntry, buildVhdx } from '../../../support/vhdx-builder.js';

const range = fc.tuple(fc.nat(200), fc.nat(40)).map(([start, length]) => [start, start + length] as const);

describe('IntervalSet', () => {
  it('agrees with a set of numbers', () => {
    fc.assert(
      fc.property(fc.array(range, { maxLength: 12 }), range, (added, [from, to]) => {
        const set = new IntervalSet();
        const model = new Set<number>();
        for (const [start, end] of added) {
          set.add(start, end);
          for (let at = start; at < end; at += 1) model.add(at);
        }
        const covered: number[] = [];
        set.forEachWithin(from, to, (start, end) => {
          for (let at = start; at < end; at += 1) covered.push(at);
        });
        const expected = Array.from({ length: to - from }, (_, n) => from + n).filter((at) => model.has(at));
        expect(covered).toEqual(expected);
        expect(set.intersects(from, to)).toBe(expected.length > 0);
        const runs = [...model].filter((at) => !model.has(at - 1)).length;
        expect(set.size).toBe(runs);
      }),
    );
  });
});

describe('SpaceMap', () => {
  it('agrees with a set of numbers, across its pages', () => {
    const taken = fc.tuple(fc.integer({ min: 524_200, max: 524_400 }), fc.integer({ min: 1, max: 60 }));
    fc.assert(
      fc.property(fc.array(taken, { maxLength: 10 }), (claims) => {
        const space = new SpaceMap();
        const model = new Set<number>();
        for (const [first, count] of claims) {
          const mine = Array.from({ length: count }, (_, n) => first + n);
          expect(space.take(first, count)).toBe(mine.some((at) => model.has(at)));
          for (const at of mine) model.add(at);
          expect(space.taken).toBe(model.size);
        }
      }),
    );
  });
});

describe('OwnedRanges', () => {
  const ranges = new OwnedRanges([
    { name: 'b', offset: 40, length: 10 },
    { name: 'a', offset: 10, length: 20 },
  ]);

  it.each([
    [0, 10, undefined],
    [0, 11, 'a'],
    [29, 30, 'a'],
    [30, 40, undefined],
    [30, 41, 'b'],
    [0, 100, 'a'],
    [50, 60, undefined],
  ])('[%d, %d) touches %s', (start, end, name) => {
    expect(ranges.find(start, end)?.name).toBe(name);
  });
});

describe('PageCache', () => {
  it('keeps few pages, and changed ones reach the file when they are dropped', async () => {
    const file = new MemoryFile();
    await file.truncate(10 * PAGE_LENGTH);
    const cache = new PageCache(file, 'a table', 2);
    for (let page = 0; page < 10; page += 1) {
      await cache.change(page * PAGE_LENGTH, (view) => view.setUint8(5, page + 1));
    }
    const kept = Array.from({ length: 10 }, (_, page) => cache.cached(page * PAGE_LENGTH) !== undefined);
    expect(kept.filter(Boolean)).toHaveLength(2);
    const stored = () => Array.from({ length: 10 }, (_, page) => file.bytes()[page * PAGE_LENGTH + 5]);
    expect(stored()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 0, 0]);
    await cache.writeBack();
    expect(stored()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect((await cache.load(0)).getUint8(5)).toBe(1);
  });

  it('loses no change when many are made at once', async () => {
    const file = new MemoryFile();
    await file.truncate(8 * PAGE_LENGTH);
    const cache = new PageCache(file, 'a table', 2);
    await Promise.all(
      Array.from({ length: 400 }, (_, n) =>
        cache.change((n % 8) * PAGE_LENGTH, (view) => view.setUint8(n, 1)),
      ),
    );
    await cache.writeBack();
    const bytes = file.bytes();
    const lost = Array.from({ length: 400 }, (_, n) => n).filter(
      (n) => bytes[(n % 8) * PAGE_LENGTH + n] !== 1,
    );
    expect(lost).toEqual([]);
  });

  it('keeps a change whose writing failed', async () => {
    const file = new MemoryFile();
    await file.truncate(PAGE_LENGTH);
    const cache = new PageCache(file, 'a table', 2);
    await cache.change(0, (view) => view.setUint8(0, 1));
    file.writable = false;
    await expect(cache.writeBack()).rejects.toThrow();
    file.writable = true;
    await cache.writeBack();
    expect(file.bytes()[0]).toBe(1);
  });

  it('refuses a page that the file does not have', async () => {
    const cache = new PageCache(new MemoryFile(new Uint8Array(100)), 'a table');
    await expect(cache.load(0)).rejects.toMatchObject({ context: { defect: 'VHDX_TRUNCATED', offset: 0 } });
  });
});

describe('check', () => {
  it('lists the first findings of a kind and counts the rest', async () => {
    const built = await buildVhdx({ virtualSize: GiB });
    for (let block = 0; block < 1000; block += 1) {
      await built.file.write(batEntry(6, 5000), built.places.entryOf(block));
    }
    const findings = await (await vhdxDriver.open(built.file, {})).check();
    expect(findings).toHaveLength(33);
    expect(findings[0]).toMatchObject({ code: 'VHDX_BAT_ENTRY_OUTSIDE_FILE', offset: built.places.bat });
    expect(findings.at(-1)?.message).toContain('968 more');
  });

  it('finds blocks that overlap in part', async () => {
    const built = await buildVhdx({
      virtualSize: 8 * MiB,
      blockSize: 4 * MiB,
      blocks: [{ index: 0 }, { index: 1 }],
    });
    const first = (built.places.payload.get(0) ?? 0) / MiB;
    await built.file.write(batEntry(6, first + 3), built.places.entryOf(1));
    const findings = await (await vhdxDriver.open(built.file, {})).check();
    expect(findings).toMatchObject([
      { code: 'VHDX_BAT_ENTRY_OVERLAP', severity: 'error', offset: built.places.entryOf(1) },
      { code: 'VHDX_UNUSED_SPACE', severity: 'leak' },
    ]);
  });

  it('counts unused space from the first block on', async () => {
    const built = await buildVhdx({
      virtualSize: 4 * MiB,
      blocks: [
        { index: 0, offsetMiB: 8 },
        { index: 1, offsetMiB: 10 },
      ],
    });
    await built.file.truncate(11 * MiB);
    const findings = await (await vhdxDriver.open(built.file, {})).check();
    expect(findings).toMatchObject([{ code: 'VHDX_UNUSED_SPACE', severity: 'leak' }]);
    expect(findings[0]?.message).toContain('1 MiB of');
  });

  it('lets unmapped blocks keep their place', async () => {
    const built = await buildVhdx({ virtualSize: 2 * MiB, blocks: [{ index: 0 }] });
    await built.file.write(batEntry(3, 4), built.places.entryOf(0));
    expect(await (await vhdxDriver.open(built.file, {})).check()).toEqual([]);
  });
});
