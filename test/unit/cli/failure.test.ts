import { describe, expect, test } from 'vitest';
import { VhdkitError } from '../../../src/base/errors.js';
import { describeFailure, failureLines, hasFlag } from '../../../src/cli/failure.js';
import { PLAIN } from '../../../src/cli/render/style.js';
import { UsageError } from '../../../src/cli/usage-error.js';
import { errorCodes } from '../../support/error-codes.js';

const lines = (error: unknown): string[] => failureLines(describeFailure(error, 'info'), PLAIN);

describe('failure lines', () => {
  test('what, where and what to do', () => {
    const error = new VhdkitError('IMAGE_CORRUPT', 'The header is damaged', {
      context: { path: '/disks/a.vhdx', offset: 65536, defect: 'VHDX_HEADER_INVALID' },
      hint: 'Restore it.',
    });
    expect(lines(error)).toEqual([
      'Error: The header is damaged',
      '  where: /disks/a.vhdx, offset 65536, VHDX_HEADER_INVALID',
      '  hint: Restore it.',
    ]);
  });

  test('what the message says already is not repeated', () => {
    const context = { path: 'a.vhd', offset: 512 };
    const hint = 'Look.';
    expect(lines(new VhdkitError('IO_FAILED', 'a.vhd: cannot read at 512', { context, hint }))).toEqual([
      'Error: a.vhd: cannot read at 512',
      '  hint: Look.',
    ]);
  });

  test('text from an image cannot steer the terminal or add lines', () => {
    const details = { context: { path: 'x\u202ey' }, hint: 'a\nb' };
    const error = new VhdkitError('IO_FAILED', 'bad\u001b[2J\nname', details);
    expect(lines(error)).toEqual([
      'Error: bad\\u001b[2J\\u000aname',
      '  where: x\\u202ey',
      '  hint: a\\u000ab',
    ]);
  });

  test('an unexpected error is named as a bug, without its stack', () => {
    const text = lines(new TypeError('x is undefined')).join('\n');
    expect(text).toContain('Internal error: x is undefined');
    expect(text).toContain('--debug');
    expect(text).not.toContain(' at ');
  });
});

test.each(errorCodes)('%s comes with something to do next', (code) => {
  const { hint } = describeFailure(new VhdkitError(code, 'It failed'));
  expect(hint).toMatch(/^[A-Z`].{10,}[.]$/);
  expect(hint?.length).toBeLessThan(120);
});

describe('the JSON form', () => {
  test('has every field, null where there is nothing', () => {
    expect(describeFailure(new VhdkitError('NOT_FOUND', 'gone'))).toEqual({
      code: 'NOT_FOUND',
      message: 'gone',
      operation: null,
      context: {},
      hint: 'Check the path.',
    });
  });

  test('wrong usage has the code USAGE', () => {
    const failure = describeFailure(new UsageError('no', 'yes'), 'map');
    expect(failure).toMatchObject({ code: 'USAGE', operation: 'map', hint: 'yes' });
  });
});

test('flags are looked for before -- only', () => {
  expect(hasFlag(['info', '--json', 'x'], '--json')).toBe(true);
  expect(hasFlag(['info', '--', '--json'], '--json')).toBe(false);
});
