/** `vhdkit snapshot list`: the snapshots of an image. */
import { BaseCommand } from '../../base-command.js';
import { folderFlag, given, imageArg } from '../../snapshot-flags.js';

export default class SnapshotList extends BaseCommand {
  static override summary = 'List the snapshots of an image, and say whether they are of use.';
  static override description =
    'Changes nothing, and works while the image is served. Sizes are what the old chunks of each snapshot take now.';
  static override examples = [
    { description: 'The snapshots of an image', command: '<%= config.bin %> snapshot list disk.img' },
    {
      description: 'The names of those that can be used, for scripts',
      command:
        '<%= config.bin %> snapshot list disk.img --json | jq -r \'.snapshots[] | select(.state == "intact").name\'',
    },
  ];
  static override args = { image: imageArg };
  static override flags = { folder: folderFlag };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(SnapshotList);
    const { listSnapshots } = await import('../../../operations/snapshot/list.js');
    const options = { path: args.image, ...given({ folder: flags.folder }) };
    const result = await listSnapshots(await this.host(), options);
    const { renderSnapshotList } = await import('../../render/snapshot.js');
    await this.show(flags, result, (style) => renderSnapshotList(result, style));
  }
}
