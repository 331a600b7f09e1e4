/**
 * Exit codes, in one table. Scripts rely on them.
 *
 * 0 done, 1 failed, 64 wrong usage, 128 + n ended by signal n (141: nobody reads stdout any more).
 * `compare` has its own meanings for 0 to 4, `check` for 0 to 3 and 63, the same as qemu-img's.
 */
import { isVhdkitError } from '../base/errors.js';
import { isParseError } from './parse-errors.js';
import { UsageError } from './usage-error.js';

export const EXIT_FAILED = 1;
/** EX_USAGE of sysexits.h; apart from 2, which `compare` and `check` need for themselves. */
export const EXIT_USAGE = 64;
/** 128 + SIGPIPE: what a shell reports for a program whose reader went away. */
export const EXIT_BROKEN_PIPE = 141;

/** `compare`: 0 same. */
export const EXIT_DIFFERENT = 1;

/** `check`: 0 no errors. */
export const EXIT_CORRUPT = 2;
export const EXIT_LEAKS = 3;

/** Failures of `compare` (open, allocation, read) and of `check` (unsupported) by what was being done. */
const STAGES: Record<string, number> = { open: 2, allocation: 3, read: 4, unsupported: 63 };

const SIGNALS: Record<string, number> = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

export function exitCodeOfSignal(signal: string): number {
  return SIGNALS[signal] ?? EXIT_FAILED;
}

/** The exit code for a failure. `signal` is the one that asked us to stop, if any. */
export function exitCodeOf(error: unknown, signal?: string): number {
  if (error instanceof UsageError || isParseError(error)) return EXIT_USAGE;
  if (!isVhdkitError(error)) return EXIT_FAILED;
  if (error.code === 'CANCELLED' && signal) return exitCodeOfSignal(signal);
  const stage = (error as { stage?: unknown }).stage;
  if (typeof stage === 'string') return STAGES[stage] ?? EXIT_FAILED;
  return error.code === 'INVALID_ARGUMENT' ? EXIT_USAGE : EXIT_FAILED;
}
