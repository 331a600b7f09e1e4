import { describe, expect, test } from 'vitest';
import { PLAIN } from '../../../../src/cli/render/style.js';
import {
  durationText,
  fieldLines,
  findingLines,
  rateText,
  sizeText,
} from '../../../../src/cli/render/text.js';

test.each([
  [0, '0 B'],
  [512, '512 B'],
  [1024, '1 KiB (1024 bytes)'],
  [64 * 1024 ** 3, '64 GiB (68719476736 bytes)'],
])('sizeText(%i)', (bytes, text) => {
  expect(sizeText(bytes)).toBe(text);
});

test.each([
  [0, '0 ms'],
  [999, '999 ms'],
  [1500, '1.5 s'],
  [65_000, '1 min 05 s'],
  [3_599_900, '1 h 00 min'],
  [7_800_000, '2 h 10 min'],
])('durationText(%i)', (milliseconds, text) => {
  expect(durationText(milliseconds)).toBe(text);
});

describe('rateText', () => {
  test('bytes per second', () => {
    expect(rateText(5 * 1024 ** 2, 2500)).toBe('2 MiB/s');
  });
  test('nothing to measure', () => {
    expect(rateText(0, 100)).toBeUndefined();
    expect(rateText(100, 0)).toBeUndefined();
  });
});

test('fields are aligned and missing ones left out', () => {
  const lines = fieldLines(
    [
      ['a', '1'],
      ['missing', undefined],
      ['longer', '2'],
    ],
    PLAIN,
  );
  expect(lines).toEqual(['  a       1', '  longer  2']);
});

test('findings in one line each', () => {
  const finding = {
    code: 'X_Y',
    severity: 'warning',
    message: 'odd\n',
    offset: 5,
    repairable: false,
  } as const;
  expect(findingLines([finding], PLAIN)).toEqual(['warning X_Y at 5: odd\\u000a']);
});
