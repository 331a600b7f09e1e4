/**
 * Failures as people and scripts see them: one to three lines on stderr, or one JSON document on stdout.
 *
 * Invariant: what failed, where it failed and what to do, in this order; a stack trace only with --debug,
 * always on stderr. Works for errors of any kind, also before a command was found.
 */
import { isVhdkitError } from '../base/errors.js';
import { EXIT_BROKEN_PIPE, exitCodeOf } from './exit-codes.js';
import { hintFor } from './hints.js';
import { OutputClosed, ReportedInDocument, writeJson } from './output.js';
import { explainParseError, isParseError, unwrapped } from './parse-errors.js';
import { makeStyle, printable, type Style, wantsColor } from './render/style.js';
import { UsageError } from './usage-error.js';

/** The `error` of the JSON document. */
export interface Failure {
  code: string;
  message: string;
  operation: string | null;
  context: Record<string, unknown>;
  hint: string | null;
}

export interface FailureOptions {
  /** As typed: the flags are looked up here because parsing may be what failed. */
  argv: readonly string[];
  /** The command's name, when one was found. */
  command?: string;
  /** The signal that asked us to stop. */
  signal?: string;
}

/** True when a flag was typed (before `--`). */
export function hasFlag(argv: readonly string[], flag: string): boolean {
  const end = argv.indexOf('--');
  return (end < 0 ? argv : argv.slice(0, end)).includes(flag);
}

export function describeFailure(error: unknown, command = ''): Failure {
  if (isVhdkitError(error)) {
    const { code, message, operation = null, context } = error;
    const hint = error.hint ?? hintFor(code);
    return { code, message, operation, context, hint };
  }
  if (error instanceof UsageError)
    return {
      code: 'USAGE',
      message: unwrapped(error.message),
      operation: command || null,
      context: {},
      hint: error.hint,
    };
  if (isParseError(error))
    return { code: 'USAGE', operation: command || null, context: {}, ...explainParseError(error, command) };
  const message = error instanceof Error ? error.message : String(error);
  const hint = 'This is a bug in vhdkit. Run the command again with --debug and report what it prints.';
  return {
    code: 'INTERNAL',
    message: `Internal error: ${message}`,
    operation: command || null,
    context: {},
    hint,
  };
}

function place({ context, message }: Failure): string {
  const parts: string[] = [];
  if (typeof context.path === 'string' && !message.includes(context.path)) parts.push(context.path);
  if (typeof context.offset === 'number' && !message.includes(String(context.offset)))
    parts.push(`offset ${context.offset}`);
  if (typeof context.defect === 'string') parts.push(context.defect);
  return parts.join(', ');
}

/** The lines for stderr. */
export function failureLines(failure: Failure, style: Style): string[] {
  const lines = [`${style.red('Error:')} ${printable(failure.message)}`];
  const where = place(failure);
  if (where) lines.push(`  ${style.dim('where:')} ${printable(where)}`);
  if (failure.hint) lines.push(`  ${style.dim('hint:')} ${printable(failure.hint)}`);
  return lines;
}

/** Reports the failure and returns the exit code. */
export async function reportFailure(error: unknown, options: FailureOptions): Promise<number> {
  if (error instanceof OutputClosed) return EXIT_BROKEN_PIPE;
  if (error instanceof ReportedInDocument) return exitCodeOf(error.cause, options.signal);
  const { argv } = options;
  const code = exitCodeOf(error, options.signal);
  const failure = describeFailure(error, options.command);
  if (hasFlag(argv, '--debug') && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  if (hasFlag(argv, '--json')) {
    await writeJson({ error: failure }).catch(() => {});
    return code;
  }
  const asked = hasFlag(argv, '--no-color') ? false : hasFlag(argv, '--color') ? true : undefined;
  const lines = failureLines(failure, await makeStyle(wantsColor(asked, process.stderr)));
  process.stderr.write(`${lines.join('\n')}\n`);
  return code;
}
