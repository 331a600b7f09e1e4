/** The completion script for each shell. */
import { bashCompletion } from './bash.js';
import { fishCompletion } from './fish.js';
import type { CommandModel } from './model.js';
import { powershellCompletion } from './powershell.js';
import { zshCompletion } from './zsh.js';

const WRITERS = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
  powershell: powershellCompletion,
} as const;

export function completionScript(shell: keyof typeof WRITERS, commands: readonly CommandModel[]): string {
  return WRITERS[shell](commands);
}
