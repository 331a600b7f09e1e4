import { afterEach, describe, expect, test, vi } from 'vitest';
import { VhdkitError } from '../../../../src/base/errors.js';
import { ReportedInDocument } from '../../../../src/cli/output.js';
import { BlockMap } from '../../../../src/cli/render/block-map.js';
import { printMapJson, printMapText } from '../../../../src/cli/render/map.js';
import { PLAIN } from '../../../../src/cli/render/style.js';
import type { DiskMap, MapEntry } from '../../../../src/operations/map.js';

const LENGTH = 4096;

function diskMap(count: number, failure?: VhdkitError): DiskMap {
  return {
    virtualSize: count * LENGTH,
    blockSize: null,
    images: [],
    parentProblem: undefined,
    async *entries(): AsyncGenerator<MapEntry> {
      for (let i = 0; i < count; i += 1) {
        const base = { offset: i * LENGTH, length: LENGTH, depth: 0 };
        yield i % 2
          ? { ...base, state: 'zero' }
          : { ...base, state: 'data', file: 'a\u001b.raw', fileOffset: 7 };
      }
      if (failure) throw failure;
    },
    close: async () => {},
  };
}

/** Captures stdout; each write is acknowledged later, as a slow reader would. */
function capture(): { text: () => string; writes: () => number } {
  const chunks: string[] = [];
  vi.spyOn(process.stdout, 'write').mockImplementation((chunk, done) => {
    chunks.push(String(chunk));
    if (typeof done === 'function') setImmediate(done);
    return false;
  });
  return { text: () => chunks.join(''), writes: () => chunks.length };
}

afterEach(() => {
  vi.restoreAllMocks();
});

function picture(map: DiskMap): BlockMap {
  return new BlockMap(map.virtualSize, map.blockSize, 'terminal');
}

describe('printMapJson', () => {
  test('one document, written in pieces', async () => {
    const map = diskMap(5000);
    const output = capture();
    await printMapJson(map, picture(map));
    const document = JSON.parse(output.text()) as { extents: MapEntry[] };
    expect(document.extents).toHaveLength(5000);
    expect(document.extents[1]).toEqual({ offset: LENGTH, length: LENGTH, state: 'zero', depth: 0 });
    expect(output.writes()).toBeGreaterThan(3);
  });

  test('a failure in the middle still leaves one document, which says so', async () => {
    const failure = new VhdkitError('IO_FAILED', 'gone', { context: { path: 'a.raw', offset: 5 } });
    const map = diskMap(3, failure);
    const output = capture();
    await expect(printMapJson(map, picture(map))).rejects.toBeInstanceOf(ReportedInDocument);
    const document = JSON.parse(output.text()) as Record<string, unknown>;
    expect(document.extents).toHaveLength(3);
    expect(document.error).toMatchObject({ code: 'IO_FAILED', context: { path: 'a.raw', offset: 5 } });
  });

  test('a disk of nothing', async () => {
    const map = diskMap(0);
    const output = capture();
    await printMapJson(map, picture(map));
    expect(JSON.parse(output.text())).toEqual({
      schemaVersion: 1,
      virtualSize: 0,
      chain: [],
      extents: [],
    });
  });

  test('a parent that is missing is told in the document', async () => {
    const map = { ...diskMap(1), parentProblem: new VhdkitError('PARENT_MISSING', 'no parent') };
    const output = capture();
    await printMapJson(map, picture(map));
    expect(JSON.parse(output.text())).toMatchObject({ parentProblem: { code: 'PARENT_MISSING' } });
  });
});

test('printMapText: aligned rows, file names made harmless', async () => {
  const map = diskMap(4);
  const output = capture();
  await printMapText(map, picture(map), 'a.raw', PLAIN);
  const lines = output.text().split('\n');
  expect(lines[1]).toBe('     0    4096      4 KiB  data        0       7  a\\u001b.raw');
  expect(lines[2]).toBe('  4096    4096      4 KiB  zero        0');
  expect(output.text()).toContain(
    'data 8 KiB (8192 bytes), zero 8 KiB (8192 bytes), 4 extents, 1 jumps in the file',
  );
});
