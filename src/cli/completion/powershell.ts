/**
 * Completion for PowerShell 5.1 and later. Where nothing is offered, PowerShell offers files by itself.
 */
import { type CommandModel, spellings, type Values } from './model.js';

const FUNCTION = `
Register-ArgumentCompleter -Native -CommandName vhdkit -ScriptBlock {
  param($wordToComplete, $commandAst, $cursorPosition)
  $words = @($commandAst.CommandElements |
    Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | ForEach-Object { $_.ToString() })
  $command = if ($words.Count -gt 1) { $words[1] } else { '' }
  $last = $words[-1]
  $offered =
    if ($words.Count -lt 2) { $vhdkitCommands }
    elseif ($vhdkitValues.ContainsKey("$command $last")) { $vhdkitValues["$command $last"] }
    elseif ($wordToComplete -like '-*') { $vhdkitFlags[$command] }
    else { $vhdkitArguments[$command] }
  $offered | Where-Object { $_ -like "$wordToComplete*" } | ForEach-Object {
    [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
  }
}
`;

function list(words: readonly string[]): string {
  return `@(${words.map((word) => `'${word}'`).join(', ')})`;
}

function words(values: Values): readonly string[] {
  return typeof values === 'string' ? [] : values;
}

function valueLines({ name, flags }: CommandModel): string[] {
  return flags.flatMap((flag) =>
    flag.values === undefined
      ? []
      : spellings(flag).map((spelling) => `  '${name} ${spelling}' = ${list(words(flag.values ?? []))}`),
  );
}

export function powershellCompletion(commands: readonly CommandModel[]): string {
  const lines = [
    '# Completion of vhdkit for PowerShell: vhdkit completion powershell | Out-String | Invoke-Expression',
    `$vhdkitCommands = ${list(commands.map(({ name }) => name))}`,
    '$vhdkitFlags = @{',
    ...commands.map(({ name, flags }) => `  '${name}' = ${list(flags.flatMap(spellings))}`),
    '}',
    '$vhdkitValues = @{',
    ...commands.flatMap(valueLines),
    '}',
    '$vhdkitArguments = @{',
    ...commands.map(({ name, args }) => `  '${name}' = ${list(args.flatMap(({ values }) => words(values)))}`),
    '}',
  ];
  return `${lines.join('\n')}${FUNCTION}`;
}
