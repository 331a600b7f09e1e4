import { describe, expect, test } from 'vitest';
import { type ErrorCode, VhdkitError } from '../../../src/base/errors.js';
import { exitCodeOf, exitCodeOfSignal } from '../../../src/cli/exit-codes.js';
import { UsageError } from '../../../src/cli/usage-error.js';
import { CompareError, type CompareStage } from '../../../src/operations/compare.js';

const failure = (code: ErrorCode) => new VhdkitError(code, 'text');

describe('exitCodeOf', () => {
  test.each([
    ['NOT_FOUND', 1],
    ['IMAGE_CORRUPT', 1],
    ['UNSUPPORTED', 1],
    ['INVALID_ARGUMENT', 64],
    ['CANCELLED', 1],
  ] as const)('%s is %i', (code, expected) => {
    expect(exitCodeOf(failure(code))).toBe(expected);
  });

  test('wrong usage, ours and oclif’s, is 64', () => {
    expect(exitCodeOf(new UsageError('text', 'hint'))).toBe(64);
    expect(exitCodeOf(Object.assign(new Error('text'), { oclif: { exit: 2 } }))).toBe(64);
  });

  test.each([
    ['open', 2],
    ['allocation', 3],
    ['read', 4],
  ] as [CompareStage, number][])('a comparison that fails at %s is %i', (stage, expected) => {
    expect(exitCodeOf(new CompareError(stage, failure('IO_FAILED')))).toBe(expected);
    expect(exitCodeOf(new CompareError(stage, failure('INVALID_ARGUMENT')))).toBe(expected);
  });

  test.each([
    ['SIGHUP', 129],
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ])('cancelled by %s is %i', (signal, expected) => {
    expect(exitCodeOf(failure('CANCELLED'), signal)).toBe(expected);
    expect(exitCodeOfSignal(signal)).toBe(expected);
  });

  test('another failure after a signal keeps its own code', () => {
    expect(exitCodeOf(failure('NO_SPACE'), 'SIGINT')).toBe(1);
  });

  test.each([new Error('text'), 'text', undefined])('anything else is 1', (error) => {
    expect(exitCodeOf(error)).toBe(1);
  });
});
