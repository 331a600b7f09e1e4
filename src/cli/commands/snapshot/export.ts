/** `vhdkit snapshot export`: a snapshot as an image of its own. */
import { BaseCommand } from '../../base-command.js';
import { Flags, forceFlag, pathArg, providerFlag, toFlag, typeFlag } from '../../flags.js';
import { controlFlag, folderFlag, given, imageArg } from '../../snapshot-flags.js';

export default class SnapshotExport extends BaseCommand {
  static override summary =
    'Write a snapshot as a new image of any format, sharing extents where the storage can.';
  static override description =
    'Where the image, the old chunks and the target lie on one file system that can share extents (XFS, Btrfs), no ' +
    'payload is copied. The target appears under its name when it is complete.';
  static override examples = [
    {
      description: 'As a VHDX',
      command: '<%= config.bin %> snapshot export disk.img monday monday.vhdx',
    },
    {
      description: 'Of an image that is served, while it is written to',
      command: '<%= config.bin %> snapshot export disk.img monday monday.vhdx --control vhdkit.sock',
    },
  ];
  static override args = {
    image: imageArg,
    name: pathArg('Name of the snapshot.'),
    target: pathArg('Image or block device to write.'),
  };
  static override flags = {
    to: toFlag,
    type: typeFlag,
    provider: providerFlag,
    verify: Flags.boolean({
      summary: 'Read the result back and compare it with the snapshot before it appears.',
    }),
    force: forceFlag(),
    folder: folderFlag,
    control: controlFlag,
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(SnapshotExport);
    const { exportSnapshot } = await import('../../../operations/snapshot/export.js');
    const host = await this.host();
    const result = await this.withProgress(flags, 'Exporting', (progress, next) =>
      exportSnapshot(host, {
        path: args.image,
        name: args.name,
        target: args.target,
        provider: flags.provider,
        verify: flags.verify,
        onVerify: () => next('Verifying'),
        force: flags.force,
        dryRun: flags['dry-run'],
        signal: this.signal,
        progress,
        ...given({ to: flags.to, type: flags.type, folder: flags.folder, control: flags.control }),
      }),
    );
    await this.warnAbout(flags, result.warnings);
    const { renderConvert } = await import('../../render/convert.js');
    const show = flags['dry-run'] || !flags.quiet;
    await this.show(flags, result, (style) => (show ? renderConvert(result, style) : []));
  }
}
