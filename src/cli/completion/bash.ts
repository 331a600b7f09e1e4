/**
 * Completion for bash 3.2 and later, without the bash-completion package.
 *
 * bash splits `--flag=value` at the `=`, which makes three words of it.
 */
import { type CommandModel, spellings, type Values } from './model.js';

const FUNCTION = `
_vhdkit_offer() {
  local word
  while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen "$@" -- "$cur")
}

_vhdkit_values() {
  case "$1" in
    files) compopt -o filenames 2>/dev/null; _vhdkit_offer -f ;;
    any) ;;
    *) _vhdkit_offer -W "$1" ;;
  esac
}

_vhdkit() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}"
  local command="" place=0 open="" index word value=""
  COMPREPLY=()
  if [[ $cur == "=" ]]; then cur=""; value=$prev
  elif [[ $prev == "=" ]]; then value="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    if [[ $word == "=" ]]; then continue; fi
    if [[ -n $open ]]; then open=""; continue; fi
    if [[ $word == -?* ]]; then
      if [[ -n $(_vhdkit_flag "$command" "$word") ]]; then open=$word; fi
    elif [[ -z $command ]]; then command=$word
    else place=$((place + 1))
    fi
  done
  if [[ -n $value ]]; then _vhdkit_values "$(_vhdkit_flag "$command" "$value")"
  elif [[ -n $open ]]; then _vhdkit_values "$(_vhdkit_flag "$command" "$open")"
  elif [[ -z $command ]]; then _vhdkit_offer -W "$_vhdkit_commands"
  elif [[ $cur == -* ]]; then _vhdkit_offer -W "$(_vhdkit_flags "$command")"
  else _vhdkit_values "$(_vhdkit_arg "$command" "$place")"
  fi
}

complete -F _vhdkit vhdkit
`;

function text(values: Values): string {
  return typeof values === 'string' ? values : values.join(' ');
}

function table(name: string, subject: string, rows: readonly [pattern: string, answer: string][]): string[] {
  const lines = rows.map(([pattern, answer]) => `    ${pattern}) echo '${answer}' ;;`);
  return [`${name}() {`, `  case "${subject}" in`, ...lines, '  esac', '}', ''];
}

function valueRows({ name, flags }: CommandModel): [string, string][] {
  return flags.flatMap((flag) =>
    flag.values === undefined
      ? []
      : [
          [
            spellings(flag)
              .map((spelling) => `'${name} ${spelling}'`)
              .join(' | '),
            text(flag.values),
          ] as [string, string],
        ],
  );
}

export function bashCompletion(commands: readonly CommandModel[]): string {
  const lines = [
    '# Completion of vhdkit for bash: source <(vhdkit completion bash)',
    `_vhdkit_commands='${commands.map(({ name }) => name).join(' ')} --help --version'`,
    '',
    '# Flags of a command.',
    ...table(
      '_vhdkit_flags',
      '$1',
      commands.map(({ name, flags }) => [name, flags.flatMap(spellings).join(' ')]),
    ),
    '# What the value of a flag may be; nothing for flags without one.',
    ...table('_vhdkit_flag', '$1 $2', commands.flatMap(valueRows)),
    '# What an argument may be, by its place.',
    ...table(
      '_vhdkit_arg',
      '$1 $2',
      commands.flatMap(({ name, args }) =>
        args.map(({ values }, place) => [`'${name} ${place}'`, text(values)] as [string, string]),
      ),
    ),
  ];
  return `${lines.join('\n')}${FUNCTION.trimStart()}`;
}
