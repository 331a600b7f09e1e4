/** Completion for fish. */
import type { CommandModel, FlagModel, Values } from './model.js';

function quote(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}

function offer(values: Values): string {
  if (values === 'files') return '-r -F';
  return values === 'any' ? '-x' : `-x -a ${quote(values.join(' '))}`;
}

function flagLines(command: string, { name, char, negatable, summary, values }: FlagModel): string[] {
  const start = `complete -c vhdkit -n '__fish_seen_subcommand_from ${command}'`;
  const parts = [char ? `-s ${char}` : '', `-l ${name}`, values === undefined ? '' : offer(values)];
  const lines = [`${start} ${parts.filter((part) => part !== '').join(' ')} -d ${quote(summary)}`];
  if (negatable) lines.push(`${start} -l no-${name}`);
  return lines;
}

function argLines({ name, args }: CommandModel): string[] {
  const start = `complete -c vhdkit -n '__fish_seen_subcommand_from ${name}'`;
  const files = args.some(({ values }) => values === 'files');
  const words = args.flatMap(({ values }) => (typeof values === 'string' ? [] : values));
  return [
    ...(files ? [`${start} -F`] : []),
    ...(words.length > 0 ? [`${start} -a ${quote(words.join(' '))}`] : []),
  ];
}

export function fishCompletion(commands: readonly CommandModel[]): string {
  const lines = [
    '# Completion of vhdkit for fish: vhdkit completion fish | source',
    'complete -c vhdkit -f',
    ...commands.map(
      ({ name, summary }) => `complete -c vhdkit -n __fish_use_subcommand -a ${name} -d ${quote(summary)}`,
    ),
    ...commands.flatMap((command) => [
      ...argLines(command),
      ...command.flags.flatMap((flag) => flagLines(command.name, flag)),
    ]),
  ];
  return `${lines.join('\n')}\n`;
}
