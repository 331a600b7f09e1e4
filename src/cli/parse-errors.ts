/**
 * oclif's parse errors, recognised and put into our words.
 *
 * oclif marks them by the property `parse` and describes them in the properties `args` and `flags`; its
 * messages span several lines and repeat the help. Flags and arguments that oclif refuses in other ways
 * are plain CLIErrors (they have a property `oclif`), their first line says it all.
 *
 * Not here: suggestions for commands (did-you-mean.ts).
 */
import { flagHint } from './did-you-mean.js';

interface OclifError extends Error {
  oclif: object;
  parse?: unknown;
  flags?: unknown;
  args?: unknown;
}

/** True for everything that oclif throws because of what was typed. */
export function isParseError(error: unknown): error is OclifError {
  return error instanceof Error && 'oclif' in error && (error as { code?: unknown }).code !== 'EEXIT';
}

function names(list: unknown): string[] {
  if (!Array.isArray(list)) return [];
  return list.map((item: unknown) =>
    typeof item === 'string' ? item : String((item as { name?: unknown }).name ?? '').toUpperCase(),
  );
}

/** A message without the lines that oclif puts around what was wrong with a flag's value. */
export function unwrapped(message: string): string {
  return message
    .replace(/\n?See more help with --help\s*$/, '')
    .replace(/^Parsing (--\S+)\s+/, '$1: ')
    .trim();
}

function plural(count: number, word: string): string {
  return count === 1 ? word : `${word}s`;
}

/** Message and hint for a parse error; `command` is what was run, for the hint. */
export function explainParseError(error: OclifError, command: string): { message: string; hint: string } {
  // oclif joins the words of a command by colons.
  const hint = `See \`vhdkit ${command ? `${command.replaceAll(':', ' ')} ` : ''}--help\`.`;
  if (Array.isArray(error.flags)) {
    const flags = names(error.flags);
    const better = flags.map(flagHint).find((text) => text !== undefined);
    return { message: `Unknown ${plural(flags.length, 'flag')}: ${flags.join(', ')}`, hint: better ?? hint };
  }
  if (Array.isArray(error.args)) {
    const args = names(error.args);
    const kind = error.message.startsWith('Unexpected') ? 'Unexpected' : 'Missing';
    return { message: `${kind} ${plural(args.length, 'argument')}: ${args.join(', ')}`, hint };
  }
  const text = unwrapped(error.message).replace(/\s+/g, ' ');
  return { message: text.replace(/^The following errors? occurred: /, ''), hint };
}
