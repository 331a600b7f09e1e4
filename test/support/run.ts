/**
 * Running programs and capturing what they say.
 *
 * Invariant: a run never waits for input from a terminal, and a program that hangs is ended by a time-out.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { searchPath } from './tools.js';

export const PROJECT_ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const BIN = path.join(PROJECT_ROOT, 'bin/run.js');

export interface RunOptions {
  cwd?: string;
  /** Added to the environment; undefined removes a variable. */
  env?: Record<string, string | undefined>;
  /** Given to the program's standard input. */
  input?: string | Uint8Array;
  /** Milliseconds; default two minutes. */
  timeout?: number;
}

export interface RunResult {
  /** Exit status; -1 when a signal ended it. */
  status: number;
  signal: NodeJS.Signals | null;
  stdout: string;
  /** Standard output as bytes. */
  output: Buffer;
  stderr: string;
  /** Wall time in milliseconds. */
  elapsed: number;
}

function environment(extra: RunOptions['env']): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env, LC_ALL: 'C', PATH: searchPath() };
  // What programs keep for their user must not be that of the user who runs the tests.
  const folder = process.env.VHDKIT_TEST_RUN_FOLDER;
  if (folder !== undefined) env.XDG_STATE_HOME = path.join(folder, 'state');
  Object.assign(env, extra);
  for (const [name, value] of Object.entries(env)) if (value === undefined) delete env[name];
  return env;
}

/** Runs a program to its end. A non-zero status is a result, not an exception. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(command, args, {
      cwd: options.cwd ?? PROJECT_ROOT,
      env: environment(options.env),
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      timeout: options.timeout ?? 120_000,
      killSignal: 'SIGKILL',
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
    // A program that ends without reading its input is no failure of the test.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input);
    child.on('error', reject);
    child.on('close', (status, signal) => {
      const output = Buffer.concat(out);
      const elapsed = performance.now() - started;
      const stderr = Buffer.concat(err).toString();
      resolve({ status: status ?? -1, signal, stdout: output.toString(), output, stderr, elapsed });
    });
  });
}

/** Runs a program that must succeed. @throws Error with everything it said when it does not */
export async function must(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const result = await run(command, args, options);
  if (result.status !== 0) throw new Error(describeFailure(command, args, result));
  return result;
}

/** Same as `must`, but blocking: for set-up code that runs while tests are being collected. */
export function mustSync(command: string, args: readonly string[], timeout = 60_000): string {
  const result = spawnSync(command, args, {
    env: environment(undefined),
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout,
    maxBuffer: 64 * 1024 * 1024,
  });
  if (result.error) throw result.error;
  if (result.status !== 0)
    throw new Error(`${command} ${args.join(' ')} failed (${result.status}): ${result.stderr.toString()}`);
  return result.stdout.toString();
}

export function describeFailure(command: string, args: readonly string[], result: RunResult): string {
  const how = result.signal ? `was ended by ${result.signal}` : `ended with status ${result.status}`;
  return `${command} ${args.join(' ')}\n${how} after ${Math.round(result.elapsed)} ms\n${result.stdout}${result.stderr}`;
}

/** Runs the built command line in a process of its own, as users do. */
export function vhdkit(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  if (!existsSync(path.join(PROJECT_ROOT, 'dist')))
    throw new Error('dist/ is missing: run `npm run build` first (a full `npm test` does it)');
  return run(process.execPath, [BIN, ...args], options);
}

/** `vhdkit … --json` that must succeed; returns its document. */
export async function vhdkitJson(
  args: readonly string[],
  options: RunOptions = {},
): Promise<Record<string, unknown>> {
  const result = await vhdkit([...args, '--json'], options);
  if (result.status !== 0) throw new Error(describeFailure('vhdkit', args, result));
  return JSON.parse(result.stdout) as Record<string, unknown>;
}
