/** Completion for zsh: works sourced, and as a file `_vhdkit` in a folder of `fpath`. */
import { type CommandModel, type FlagModel, spellings, type Values } from './model.js';

/** Text inside single quotes, in a place where `_arguments` reads brackets and colons. */
function quote(text: string): string {
  return text.replace(/[[\]\\:]/g, '\\$&').replaceAll("'", "'\\''");
}

function action(values: Values): string {
  if (values === 'files') return '_files';
  return values === 'any' ? ' ' : `(${values.join(' ')})`;
}

function flagSpecs(flag: FlagModel): string[] {
  const all = spellings(flag);
  const rest = flag.values === undefined ? '' : `:${flag.name}:${action(flag.values)}`;
  return all.map((spelling) => {
    const takes = flag.values !== undefined && spelling.startsWith('--') ? '=' : '';
    return `'(${all.join(' ')})${spelling}${takes}[${quote(flag.summary)}]${rest}'`;
  });
}

function commandLines({ name, flags, args }: CommandModel): string[] {
  const specs = [
    ...flags.flatMap(flagSpecs),
    ...args.map((arg, place) => `'${place + 1}:${arg.name}:${action(arg.values)}'`),
  ];
  return [`    ${name})`, `      _arguments -s ${specs.join(' \\\n        ')}`, '      ;;'];
}

export function zshCompletion(commands: readonly CommandModel[]): string {
  const lines = [
    '#compdef vhdkit',
    '# Completion of vhdkit for zsh: source <(vhdkit completion zsh)',
    '_vhdkit() {',
    '  local -a commands',
    '  commands=(',
    ...commands.map(({ name, summary }) => `    '${name}:${quote(summary)}'`),
    '  )',
    '  if (( CURRENT == 2 )); then',
    "    _describe 'command' commands",
    '    return',
    '  fi',
    '  local command=$words[2]',
    '  shift words',
    '  (( CURRENT-- ))',
    '  case $command in',
    ...commands.flatMap(commandLines),
    '  esac',
    '}',
    // As a file of fpath the body is the function itself; sourced, the function must be made known.
    'if [[ $funcstack[1] == _vhdkit ]]; then _vhdkit "$@"; else compdef _vhdkit vhdkit; fi',
  ];
  return `${lines.join('\n')}\n`;
}
