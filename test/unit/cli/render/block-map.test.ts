import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BlockMap, hasUnicode, renderBlockMap } from '../../../../src/cli/render/block-map.js';
import { renderSvg } from '../../../../src/cli/render/block-map-svg.js';
import { PLAIN } from '../../../../src/cli/render/style.js';
import type { MapEntry } from '../../../../src/operations/map.js';

const MiB = 1024 ** 2;

function entry(offset: number, length: number, state: MapEntry['state'], fileOffset?: number): MapEntry {
  const base = { offset, length, state, depth: 0 };
  return fileOffset === undefined ? base : { ...base, file: 'f', fileOffset };
}

function mapOf(size: number, block: number | null, entries: MapEntry[]): BlockMap {
  const map = new BlockMap(size, block, 'terminal');
  for (const item of entries) map.add(item);
  return map;
}

describe('BlockMap', () => {
  test('one cell per block while the disk is small', () => {
    const map = mapOf(4 * MiB, MiB, [
      entry(0, MiB, 'data', 0),
      entry(MiB, MiB / 2, 'zero'),
      entry(1.5 * MiB, MiB / 2, 'data', 9 * MiB),
      entry(2 * MiB, MiB, 'absent'),
      entry(3 * MiB, MiB, 'data', MiB),
    ]);
    expect(map.cellSize).toBe(MiB);
    expect(map.states()).toEqual(['data', 'mixed', 'absent', 'scattered']);
    expect(map.totals).toEqual({ extents: 5, data: 2.5 * MiB, zero: MiB / 2, absent: MiB, jumps: 2 });
  });

  test('payload that goes on in the file, after the bitmap of a VHD block, is no jump', () => {
    const map = mapOf(2 * MiB, MiB, [entry(0, MiB, 'data', 5), entry(MiB, MiB, 'data', 4101 + MiB)]);
    expect(map.states()).toEqual(['data', 'data']);
    expect(map.totals.jumps).toBe(0);
  });

  test('payload as far apart in the file as on the disk is no jump', () => {
    const map = mapOf(4 * MiB, MiB, [
      entry(0, MiB, 'data', 5),
      entry(MiB, 2 * MiB, 'absent'),
      entry(3 * MiB, MiB, 'data', 5 + 3 * MiB),
    ]);
    expect(map.totals.jumps).toBe(0);
  });

  test('the number of cells is bounded and every byte is in one, whatever the size', () => {
    const runs = fc.array(
      fc.tuple(fc.integer({ min: 1, max: 2 ** 40 }), fc.constantFrom('data', 'zero', 'absent')),
      {
        minLength: 1,
        maxLength: 40,
      },
    );
    fc.assert(
      fc.property(runs, fc.constantFrom(null, 512, 2 * MiB), (list, block) => {
        let offset = 0;
        const entries = list.map(([length, state]) => {
          const item = entry(offset, length, state as MapEntry['state'], state === 'data' ? 0 : undefined);
          offset += length;
          return item;
        });
        const map = mapOf(offset, block, entries);
        const states = map.states();
        expect(states.length).toBeLessThanOrEqual(64 * 16);
        expect(states.length * map.cellSize).toBeGreaterThanOrEqual(offset);
        const { data, zero, absent } = map.totals;
        expect(data + zero + absent).toBe(offset);
        for (const state of ['data', 'zero', 'absent'] as const)
          if (list.every((run) => run[1] === state))
            expect(states.every((cell) => cell === state || (state === 'data' && cell === 'scattered'))).toBe(
              true,
            );
      }),
    );
  });
});

describe('pictures', () => {
  const map = mapOf(4 * MiB, MiB, [entry(0, 2 * MiB, 'data', 0), entry(2 * MiB, 2 * MiB, 'zero')]);

  test('on a terminal', () => {
    expect(renderBlockMap(map, PLAIN, true)).toEqual([
      '       0 B │██··│',
      '',
      '           [█] data  [·] zero',
      '           each cell: 1 MiB',
    ]);
  });

  test('without block characters', () => {
    expect(renderBlockMap(map, PLAIN, false)[0]).toBe('       0 B |##..|');
  });

  test('as SVG: one rectangle per run, and no markup from file names', () => {
    const svg = renderSvg(map, 'a<b>&"\u0007.vhd');
    expect(svg).toContain('<title>a&lt;b&gt;&amp;&quot;�.vhd</title>');
    expect(svg.match(/<rect [^>]*class="data"/g)).toHaveLength(2); // the run and the legend
    expect(svg).toContain('width="16" height="8" class="data"');
  });

  test.each([
    [{ LANG: 'en_US.UTF-8' }, 'linux', true],
    [{ LANG: 'C' }, 'linux', false],
    [{ LC_ALL: 'C', LANG: 'en_US.UTF-8' }, 'linux', false],
    [{}, 'darwin', true],
  ] as const)('character set %j on %s', (env, platform, expected) => {
    expect(hasUnicode(env, platform)).toBe(expected);
  });
});
