/** `vhdkit merge`: a differencing image into an image that it depends on, or its chain into a new one. */
import { BaseCommand } from '../base-command.js';
import { Flags, forceFlag, pathArg, providerFlag, size } from '../flags.js';

export default class Merge extends BaseCommand {
  static override summary = 'Merge a differencing image into its parent, an ancestor, or a new image.';
  static override description =
    'The target becomes the disk that the child shows; whatever lies between the two is merged in the same ' +
    'pass, and each byte is moved once. Where extents can be shared (XFS, Btrfs) no bytes are copied. ' +
    'Whoever looks through the child sees the same all the time: a merge that was interrupted, even by a ' +
    'crash, has lost nothing, and running the same command again finishes it.\n\n' +
    'An image that others depend on is not changed, because they would break: those in the folders of the ' +
    'chain are found. Images that depend on the child itself are linked to the target with --delete.';
  static override examples = [
    {
      description: 'Into its parent, and the child goes',
      command: '<%= config.bin %> merge disk_1.avhdx --delete',
    },
    {
      description: 'A chain of any length into its base, in one pass',
      command: '<%= config.bin %> merge disk_9.avhdx --to disk.vhdx --delete',
    },
    {
      description: 'Into a new image; the chain stays as it is',
      command: '<%= config.bin %> merge disk_9.avhdx --to flat.vhdx',
    },
    { description: 'What would happen', command: '<%= config.bin %> merge disk_1.avhdx --dry-run' },
  ];
  static override args = { child: pathArg('Differencing image to merge.') };
  static override flags = {
    to: Flags.string({
      helpValue: '<image>',
      summary:
        "An image that the child depends on, or the name of a new one; without it, the child's parent.",
    }),
    delete: Flags.boolean({ summary: 'Remove what was merged, once the target holds it durably.' }),
    force: forceFlag('Merge although images that depend on the target will break.'),
    provider: providerFlag,
    rate: size({
      summary: 'Bytes per second to read or copy at most (50M); shared extents and zeros are free.',
      helpValue: '<size>',
    }),
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Merge);
    const host = await this.host();
    const { merge } = await import('../../operations/merge.js');
    const result = await this.withProgress(flags, 'Merging', (progress) =>
      merge(host, {
        child: args.child,
        delete: flags.delete,
        force: flags.force,
        dryRun: flags['dry-run'],
        provider: flags.provider,
        signal: this.signal,
        progress,
        ...(flags.to === undefined ? {} : { to: flags.to }),
        ...(flags.rate === undefined ? {} : { rate: flags.rate }),
      }),
    );
    await this.warnAbout(flags, result.warnings);
    const { renderMerge } = await import('../render/merge.js');
    const show = flags['dry-run'] || !flags.quiet;
    await this.show(flags, result, (style) => (show ? renderMerge(result, style) : []));
  }
}
