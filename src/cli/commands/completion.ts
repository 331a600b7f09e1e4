/** `vhdkit completion`: a script that makes a shell complete vhdkit's commands, flags and values. */
import * as Args from '@oclif/core/args';
import { BaseCommand } from '../base-command.js';

const SHELLS = ['bash', 'zsh', 'fish', 'powershell'] as const;

export default class Completion extends BaseCommand {
  static override summary = 'Print a script that makes a shell complete commands, flags and values.';
  static override description =
    'The script completes what this version of vhdkit knows; print it anew after an update, or from the ' +
    "shell's start-up file as in the examples.";
  static override examples = [
    { description: 'In ~/.bashrc', command: 'source <(<%= config.bin %> completion bash)' },
    { description: 'In ~/.zshrc, after compinit', command: 'source <(<%= config.bin %> completion zsh)' },
    { description: 'In ~/.config/fish/config.fish', command: '<%= config.bin %> completion fish | source' },
    {
      description: 'In the PowerShell profile',
      command: '<%= config.bin %> completion powershell | Out-String | Invoke-Expression',
    },
  ];
  static override args = {
    shell: Args.string({
      required: true,
      ignoreStdin: true,
      options: [...SHELLS],
      description: 'The shell to print it for.',
    }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Completion);
    const { completionModel } = await import('../completion/model.js');
    const { completionScript } = await import('../completion/scripts.js');
    const shell = SHELLS.find((name) => name === args.shell) ?? 'bash';
    const script = completionScript(shell, completionModel(this.config.commands));
    await this.show(flags, { shell, script }, () => [script.trimEnd()]);
  }
}
