/** `vhdkit snapshot restore`: puts an image back to a snapshot. */
import { BaseCommand } from '../../base-command.js';
import { Flags, pathArg } from '../../flags.js';
import { controlFlag, folderFlag, given, imageArg } from '../../snapshot-flags.js';

export default class SnapshotRestore extends BaseCommand {
  static override summary = 'Put an image back to what it was at a snapshot.';
  static override description =
    'What was written since is lost, unless --keep makes a snapshot of it; other snapshots stay as they are. Only ' +
    'chunks that were overwritten are put back, by sharing extents or inside the kernel where the storage can. ' +
    'If it is interrupted, running it again completes it; until then nothing else may use the image.\n\n' +
    'With --control the disk shows the snapshot at once, and can be written to while its chunks are put back. ' +
    'Whatever has it mounted will not expect that: unmount it first.';
  static override examples = [
    { description: 'Back to Monday', command: '<%= config.bin %> snapshot restore disk.img monday' },
    {
      description: 'And keep what is there now',
      command: '<%= config.bin %> snapshot restore disk.img monday --keep before',
    },
    {
      description: 'How much would be put back',
      command: '<%= config.bin %> snapshot restore disk.img monday --dry-run',
    },
  ];
  static override args = { image: imageArg, name: pathArg('Name of the snapshot.') };
  static override flags = {
    keep: Flags.string({ helpValue: '<name>', summary: 'Make a snapshot of what is there now, first.' }),
    folder: folderFlag,
    control: controlFlag,
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(SnapshotRestore);
    const { restoreSnapshot } = await import('../../../operations/snapshot/restore.js');
    const host = await this.host();
    const result = await this.withProgress(flags, 'Restoring', (progress) =>
      restoreSnapshot(host, {
        path: args.image,
        name: args.name,
        dryRun: flags['dry-run'],
        signal: this.signal,
        progress,
        ...given({ keep: flags.keep, folder: flags.folder, control: flags.control }),
      }),
    );
    const { renderSnapshotRestore } = await import('../../render/snapshot.js');
    const show = flags['dry-run'] || !flags.quiet;
    await this.show(flags, result, (style) => (show ? renderSnapshotRestore(result, style) : []));
  }
}
