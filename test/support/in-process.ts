/**
 * The built command line, run within this process: for tests that need what commands do many times over and not
 * that each is a process of its own, which costs a quarter of a second.
 *
 * Invariant: one command at a time; stdout, stderr, exit code and working folder are this process's own again
 * afterwards. What depends on a process (signals, pipes, locks against others, memory) is not for here: `run.ts`.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { run } from '@oclif/core/run';
import { settings } from '@oclif/core/settings';
import { PROJECT_ROOT, type RunOptions, vhdkit as vhdkitProcess } from './run.js';
import { runFolder } from './tmp.js';

export interface HereResult {
  status: number;
  stdout: string;
  /** Standard output as bytes. */
  output: Buffer;
  stderr: string;
}

type Write = typeof process.stdout.write;

/** Takes the place of a stream's `write`, until `release`. */
class Capture {
  readonly #stream: NodeJS.WriteStream;
  readonly #original: Write;
  readonly #chunks: Buffer[] = [];

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    this.#original = stream.write;
    stream.write = ((chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
      this.#chunks.push(Buffer.from(chunk as Uint8Array));
      const done = rest.find((item) => typeof item === 'function') as (() => void) | undefined;
      if (done) process.nextTick(done);
      return true;
    }) as Write;
  }

  release(): void {
    this.#stream.write = this.#original;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

async function runNow(args: readonly string[], { cwd }: RunOptions): Promise<HereResult> {
  if (!existsSync(path.join(PROJECT_ROOT, 'dist'))) throw new Error('dist/ is missing: run `npm run build`');
  settings.enableAutoTranspile = false;
  const before = { code: process.exitCode, folder: process.cwd(), state: process.env.XDG_STATE_HOME };
  process.exitCode = 0;
  process.env.XDG_STATE_HOME = path.join(runFolder(), 'state');
  process.chdir(cwd ?? PROJECT_ROOT);
  let status: number;
  const [out, err] = [new Capture(process.stdout), new Capture(process.stderr)];
  try {
    const load = { root: PROJECT_ROOT, userPlugins: false, devPlugins: false };
    await run([...args], load as Parameters<typeof run>[1]);
  } finally {
    // Whatever was thrown: from here on the test's own output is seen again.
    for (const each of [out, err]) each.release();
    status = Number(process.exitCode);
    process.exitCode = before.code;
    process.chdir(before.folder);
    if (before.state === undefined) delete process.env.XDG_STATE_HOME;
    else process.env.XDG_STATE_HOME = before.state;
  }
  const output = out.bytes();
  return { status, stdout: output.toString(), output, stderr: err.bytes().toString() };
}

let last: Promise<unknown> = Promise.resolve();

/**
 * Runs a command; a non-zero status is a result, not an exception. With input, an environment or a time-out it is
 * a process after all.
 */
export function vhdkit(args: readonly string[], options: RunOptions = {}): Promise<HereResult> {
  const { input, env, timeout } = options;
  if (input !== undefined || env || timeout !== undefined) return vhdkitProcess(args, options);
  const result = last.then(() => runNow(args, options));
  last = result.catch(() => undefined);
  return result;
}

/** `vhdkit … --json` that must succeed; returns its document. */
export async function vhdkitJson(
  args: readonly string[],
  options: RunOptions = {},
): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await vhdkit([...args, '--json'], options);
  if (status !== 0)
    throw new Error(`vhdkit ${args.join(' ')}\nended with status ${status}\n${stdout}${stderr}`);
  return JSON.parse(stdout) as Record<string, unknown>;
}
