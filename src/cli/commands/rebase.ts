/** `vhdkit rebase`: another parent for a differencing image. */
import { BaseCommand } from '../base-command.js';
import { Flags, fromFlag, pathArg } from '../flags.js';
import { UsageError } from '../usage-error.js';

export default class Rebase extends BaseCommand {
  static override summary = 'Give a differencing image another parent, or repair the link to the one it has.';
  static override description =
    'The content stays the same: where the old parent and the new one differ, the child takes over what the old ' +
    'one has, then the link is changed. It may be stopped at any moment and run again.\n\n' +
    'With --relink only the link is changed and nothing is read: the parent was moved or renamed. It must be the ' +
    'very parent that the child was made from (VHD: unique id; VHDX: DataWriteGuid); --ignore-id-mismatch takes ' +
    'another one, which then shows through. Without --parent the parent is looked for where the child says it is, ' +
    'and beside the child.\n\nFor an image without any parent, use convert.';
  static override examples = [
    {
      description: 'Leave out an image in the middle of a chain',
      command: '<%= config.bin %> rebase child.vhdx --parent grandparent.vhdx',
    },
    {
      description: 'How much would the child have to take over?',
      command: '<%= config.bin %> rebase child.vhd --parent new-base.vhd --dry-run',
    },
    {
      description: 'After child and parent were moved to another folder together',
      command: '<%= config.bin %> rebase child.vhdx --relink',
    },
    {
      description: 'After the parent was renamed',
      command: '<%= config.bin %> rebase child.vhdx --relink --parent renamed.vhdx',
    },
  ];
  static override args = { child: pathArg('Differencing image.') };
  static override flags = {
    from: fromFlag(),
    parent: Flags.string({ helpValue: '<image>', summary: 'The parent that the child is to have.' }),
    relink: Flags.boolean({ summary: 'Change the link alone; no content is read.' }),
    'ignore-id-mismatch': Flags.boolean({
      summary: 'With --relink: take a parent that the child was not made from. Its content changes then.',
    }),
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Rebase);
    const { parent, relink } = flags;
    if (!parent && !relink)
      throw new UsageError(
        'rebase needs to know which parent the child is to have',
        'Add --parent IMAGE, or --relink to repair the link; for an image without a parent: `vhdkit convert CHILD NEW`.',
      );
    if (flags['ignore-id-mismatch'] && !(relink && parent))
      throw new UsageError(
        '--ignore-id-mismatch is only for --relink to a parent that is named',
        'Say --relink --parent IMAGE --ignore-id-mismatch.',
      );
    const { rebase } = await import('../../operations/rebase.js');
    const { renderRebase } = await import('../render/rebase.js');
    const host = await this.host();
    const result = await this.withProgress(flags, 'Rebasing', (progress) =>
      rebase(host, {
        path: args.child,
        relink,
        ignoreIdMismatch: flags['ignore-id-mismatch'],
        dryRun: flags['dry-run'],
        signal: this.signal,
        progress,
        ...(parent ? { parent } : {}),
        ...(flags.from ? { format: flags.from } : {}),
      }),
    );
    await this.warnAbout(flags, result.warnings);
    const show = flags['dry-run'] || !flags.quiet;
    await this.show(flags, result, (style) => (show ? renderRebase(result, style) : []));
  }
}
