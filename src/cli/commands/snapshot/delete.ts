/** `vhdkit snapshot delete`: deletes snapshots. */
import * as Args from '@oclif/core/args';
import { BaseCommand } from '../../base-command.js';
import { Flags } from '../../flags.js';
import { controlFlag, folderFlag, given, imageArg } from '../../snapshot-flags.js';
import { UsageError } from '../../usage-error.js';

export default class SnapshotDelete extends BaseCommand {
  static override summary = 'Delete snapshots; older ones keep what they need.';
  static override description =
    'What the next older snapshot needs of a deleted one is moved there first. The image itself does not change. ' +
    'If it is interrupted, deleting the same snapshot again completes it.';
  static override examples = [
    { description: 'One', command: '<%= config.bin %> snapshot delete disk.img monday' },
    { description: 'All of them', command: '<%= config.bin %> snapshot delete disk.img --all' },
  ];
  static override strict = false;
  static override args = {
    image: imageArg,
    names: Args.string({ ignoreStdin: true, description: 'Names of snapshots.' }),
  };
  static override flags = {
    all: Flags.boolean({ summary: 'Every snapshot of the image.' }),
    folder: folderFlag,
    control: controlFlag,
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, argv, flags } = await this.parse(SnapshotDelete);
    const names = argv.slice(1).map(String);
    if (flags.all === names.length > 0)
      throw new UsageError(
        flags.all ? 'Either names or --all' : 'Missing the snapshot to delete',
        'Give names from `vhdkit snapshot list`, or say --all.',
      );
    const { deleteSnapshots } = await import('../../../operations/snapshot/delete.js');
    const host = await this.host();
    const result = await this.withProgress(flags, 'Deleting', (progress) =>
      deleteSnapshots(host, {
        path: args.image,
        names,
        all: flags.all,
        dryRun: flags['dry-run'],
        signal: this.signal,
        progress,
        ...given({ folder: flags.folder, control: flags.control }),
      }),
    );
    const { renderSnapshotDelete } = await import('../../render/snapshot.js');
    const show = flags['dry-run'] || !flags.quiet;
    await this.show(flags, result, (style) => (show ? renderSnapshotDelete(result, style) : []));
  }
}
