/**
 * What shells are to complete, taken from oclif's manifest: nothing here is kept by hand.
 *
 * Invariant: names and values consist of letters, digits and `-._:|`, so that no shell finds anything to
 * expand in them; summaries are free text and are quoted by each shell's writer.
 *
 * Commands of several words are completed as one command by their first word: its first argument is one of the
 * second words, then come files, and flags are those of all of them.
 */
import { assert } from '../../base/assert.js';

/** The parts of a manifest that matter here. */
export interface ManifestCommand {
  id: string;
  summary?: string | undefined;
  hidden?: boolean | undefined;
  /** The command is there once more under each of these ids. */
  aliases?: readonly string[] | undefined;
  flags: Record<string, ManifestFlag>;
  args: Record<string, { name: string; options?: readonly string[] | undefined }>;
}

export interface ManifestFlag {
  name: string;
  char?: string | undefined;
  type: string;
  summary?: string | undefined;
  hidden?: boolean | undefined;
  allowNo?: boolean | undefined;
  helpValue?: string | readonly string[] | undefined;
  options?: readonly string[] | undefined;
}

/** What may stand in a place: files, one of some words, or anything (nothing is offered). */
export type Values = 'files' | 'any' | readonly string[];

export interface FlagModel {
  name: string;
  char: string | undefined;
  /** Also there as `--no-name`. */
  negatable: boolean;
  summary: string;
  /** Undefined for flags without a value. */
  values: Values | undefined;
}

export interface CommandModel {
  name: string;
  summary: string;
  flags: readonly FlagModel[];
  args: readonly { name: string; values: Values }[];
}

const SAFE = /^[\w.:|-]+$/;

function safe(text: string): string {
  assert(SAFE.test(text), `'${text}' can't be completed in every shell`);
  return text;
}

function valuesOf({ options, helpValue }: ManifestFlag): Values {
  if (options) return options.map(safe);
  const help = typeof helpValue === 'string' ? helpValue : '';
  const choices = /^<([\w-]+(?:\|[\w-]+)+)>$/.exec(help)?.[1];
  if (choices) return choices.split('|').map(safe);
  return /^<(file|folder|image)>$/.test(help) ? 'files' : 'any';
}

function flagModel(flag: ManifestFlag): FlagModel {
  return {
    name: safe(flag.name),
    char: flag.char,
    negatable: flag.allowNo ?? false,
    summary: flag.summary ?? '',
    values: flag.type === 'option' ? valuesOf(flag) : undefined,
  };
}

const HELP: FlagModel = {
  name: 'help',
  char: 'h',
  negatable: false,
  summary: 'Explain the command.',
  values: undefined,
};

function commandModel(command: ManifestCommand): CommandModel {
  const flags = Object.values(command.flags).filter(({ hidden }) => !hidden);
  return {
    name: safe(command.id),
    summary: command.summary ?? '',
    flags: [...flags.map(flagModel), HELP].sort((a, b) => (a.name < b.name ? -1 : 1)),
    args: Object.values(command.args).map(({ name, options }) => ({
      name: safe(name),
      values: options?.map(safe) ?? (name === 'size' ? 'any' : 'files'),
    })),
  };
}

/** Commands that share their first word, as one. */
function topicModel(name: string, models: readonly CommandModel[]): CommandModel {
  const members = models.filter((model) => model.name.startsWith(`${name}:`));
  const flags = new Map(members.flatMap((member) => member.flags.map((flag) => [flag.name, flag] as const)));
  const args = members.map((member) => member.args).sort((a, b) => b.length - a.length)[0] ?? [];
  return {
    name,
    summary: '',
    flags: [...flags.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    args: [
      { name: 'command', values: members.map((member) => member.name.slice(name.length + 1)).sort() },
      ...args,
    ],
  };
}

/** The commands in alphabetical order, `help` among them. */
export function completionModel(commands: readonly ManifestCommand[]): CommandModel[] {
  const shown = commands.filter(({ id, hidden, aliases }) => !hidden && !aliases?.includes(id));
  const models = shown.map(commandModel);
  const whole = models.filter(({ name }) => !name.includes(':'));
  const firstWords = new Set(models.map(({ name }) => name.split(':')[0] ?? name));
  for (const { name } of whole) firstWords.delete(name);
  const topics = [...firstWords].map((name) => topicModel(name, models));
  const words = [...whole, ...topics].map(({ name }) => name).sort();
  const help = {
    name: 'help',
    summary: 'Explain a command.',
    flags: [HELP],
    args: [{ name: 'command', values: words }],
  };
  return [...whole, ...topics, help].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** `--name`, `-c`, `--no-name`. */
export function spellings({ name, char, negatable }: FlagModel): string[] {
  return [`--${name}`, ...(char ? [`-${char}`] : []), ...(negatable ? [`--no-${name}`] : [])];
}
