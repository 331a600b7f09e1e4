/**
 * Flags and arguments that several commands share, and how their text becomes values.
 *
 * Invariant: every argument ignores stdin (oclif would otherwise take a missing argument from a pipe);
 * text that makes no sense becomes a UsageError that says what would.
 */
import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { parseSize } from '../base/bytes.js';
import type { FormatId } from '../formats/disk-image.js';
import { UsageError } from './usage-error.js';

/** Names of formats, those of other tools included. */
const FORMAT_NAMES: Record<string, FormatId> = {
  raw: 'raw',
  lun: 'raw',
  img: 'raw',
  vhd: 'vhd',
  vpc: 'vhd',
  avhd: 'vhd',
  vhdx: 'vhdx',
  avhdx: 'vhdx',
};

async function parseFormat(text: string): Promise<FormatId> {
  const format = FORMAT_NAMES[text.toLowerCase()];
  if (format) return format;
  throw new UsageError(
    `Unknown format '${text}'`,
    'Formats: raw (also lun, img), vhd (also vpc, avhd), vhdx (also avhdx).',
  );
}

export async function parseBytes(text: string): Promise<number> {
  try {
    return parseSize(text);
  } catch {
    throw new UsageError(`Not a size: '${text}'`, 'Write bytes or a binary unit: 512, 64K, 10M, 2G, 1T.');
  }
}

export { Flags };

const format = Flags.custom<FormatId>({ parse: parseFormat, helpValue: '<raw|vhd|vhdx>' });
export const size = Flags.custom<number>({ parse: parseBytes, helpValue: '<size>' });

export const fromFlag = (summary = 'Format of the image; without it the content is probed, head and tail.') =>
  format({ char: 'f', summary });

export const secondFromFlag = format({ char: 'F', summary: 'Format of the second image.' });

export const toFlag = format({
  char: 'O',
  summary: "Format of the target; without it the target's extension decides.",
});

export const typeFlag = Flags.option({
  options: ['dynamic', 'fixed'] as const,
  summary: 'Allocate blocks as they are written, or all of them.',
})();

export const blockSizeFlag = size({
  summary: 'Size of the allocation unit (VHD: 4K to 256M, usually 2M; VHDX: 1M to 256M).',
});

export const profileFlag = (summary: string) =>
  Flags.option({
    options: ['azure', 'hyperv', 'virtualbox', 'wsl', 'xenserver'] as const,
    summary,
  })();

export const providerFlag = Flags.option({
  options: ['auto', 'reflink', 'kernel', 'buffered', 'skip-1', 'skip-2'] as const,
  default: 'auto' as const,
  summary:
    'Share extents, copy in the kernel, or read and write; auto: the cheapest that works; skip-N: as auto, without the N cheapest.',
})();

export const forceFlag = (summary = 'Overwrite the target if it is there.') => Flags.boolean({ summary });

export const withoutParentFlag = Flags.boolean({
  summary: 'Look at this image alone, without the parents of a differencing image.',
});

export const sizeArg = Args.custom<number>({ parse: parseBytes, ignoreStdin: true });

/** `64G`, `+1G`, `-1G`. */
async function parseSizeChange(text: string): Promise<{ to: number } | { by: number }> {
  const [, sign, rest] = /^([+-]?)(.*)$/s.exec(text) ?? [];
  const bytes = await parseBytes(rest ?? '');
  if (!sign) return { to: bytes };
  return { by: sign === '-' ? -bytes : bytes };
}

export function sizeChangeArg(description: string) {
  return Args.custom<{ to: number } | { by: number }>({ parse: parseSizeChange, ignoreStdin: true })({
    required: true,
    description,
  });
}

export function pathArg(description: string) {
  return Args.string({ required: true, ignoreStdin: true, description });
}

/** For an argument that some flag makes superfluous: the command says when it is missing. */
export function optionalPathArg(description: string) {
  return Args.string({ ignoreStdin: true, description });
}

/** Flags of every command. */
export const globalFlags = {
  json: Flags.boolean({ summary: 'Print one JSON document.', helpGroup: 'GLOBAL' }),
  progress: Flags.option({
    options: ['auto', 'bar', 'plain', 'json', 'none'] as const,
    default: 'auto' as const,
    summary: 'How to show progress on stderr; auto: a bar on a terminal.',
    helpGroup: 'GLOBAL',
  })(),
  quiet: Flags.boolean({
    char: 'q',
    summary: 'Print nothing but what was asked for and errors.',
    helpGroup: 'GLOBAL',
  }),
  color: Flags.boolean({
    allowNo: true,
    summary: 'Colour the text; by default on a terminal, unless NO_COLOR is set.',
    helpGroup: 'GLOBAL',
  }),
  debug: Flags.boolean({ summary: 'Print the stack trace of an error.', helpGroup: 'GLOBAL' }),
};
