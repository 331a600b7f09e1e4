/**
 * From the process's arguments to an exit code: starts oclif and catches what no command caught.
 *
 * Invariant: never throws, and sets `process.exitCode` instead of ending the process, so that output
 * still under way is written. oclif is told not to look for TypeScript sources or plugins, which costs
 * time and would let files outside the package decide what runs.
 */
import { Config } from '@oclif/core/config';
import { run } from '@oclif/core/run';
import { settings } from '@oclif/core/settings';
import { hasFlag, reportFailure } from './failure.js';
import { guardStreams } from './output.js';
import { isParseError } from './parse-errors.js';

/** How oclif finds the commands. */
export type LoadOptions = Extract<Parameters<typeof run>[1], { root: string }>;

function asksForHelp(argv: readonly string[]): boolean {
  return hasFlag(argv, '--help') || hasFlag(argv, '-h');
}

/** Help for a command that does not exist is the one error that oclif's help throws. */
async function explain(error: unknown, argv: readonly string[], load: LoadOptions): Promise<unknown> {
  const word = argv.find((arg) => !arg.startsWith('-'));
  if (!isParseError(error) || word === undefined || !asksForHelp(argv)) return error;
  const { unknownCommand } = await import('./did-you-mean.js');
  const { commandIDs } = await Config.load(load);
  return commandIDs.includes(word) ? error : unknownCommand(word, commandIDs);
}

/** Runs the command line with the arguments after the program's name. */
export async function main(args: readonly string[], load: LoadOptions): Promise<void> {
  settings.enableAutoTranspile = false;
  guardStreams();
  const fail = async (error: unknown): Promise<void> => {
    process.exitCode = await reportFailure(error, { argv: args });
  };
  process.on('uncaughtException', (error) => void fail(error).then(() => process.exit()));
  const [first, ...rest] = args;
  const argv = first === 'help' ? [...rest, '--help'] : [...args];
  try {
    await run(argv, load);
  } catch (error) {
    await fail(await explain(error, argv, load));
  }
}
