/**
 * vhdkit in pipes of a shell, as people write them.
 *
 * Invariant: every stage's exit status is known, and a file name never becomes part of the script.
 */
import path from 'node:path';
import { describeFailure, PROJECT_ROOT, type RunOptions, type RunResult, run } from './run.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');

/**
 * Runs a script in bash in which `vhdkit` is the built command line and `$1`, `$2`, … are the arguments.
 * Any stage of a pipe that fails makes the script fail.
 */
export function shell(script: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const prelude = `set -o pipefail; node=$1; bin=$2; shift 2; vhdkit() { "$node" "$bin" "$@"; }; `;
  return run('bash', ['-c', prelude + script, 'bash', process.execPath, BIN, ...args], options);
}

/** The same, for scripts that must succeed. @throws Error with everything it said when it does not */
export async function mustShell(
  script: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const result = await shell(script, args, options);
  if (result.status !== 0) throw new Error(describeFailure(script, args, result));
  return result;
}
