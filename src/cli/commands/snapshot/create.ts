/** `vhdkit snapshot create`: keeps what a raw image holds at this moment. */
import type { SnapshotCreateResult } from '../../../operations/snapshot/types.js';
import { BaseCommand } from '../../base-command.js';
import { Flags, optionalPathArg, size } from '../../flags.js';
import { controlFlag, folderFlag, given, imageArg } from '../../snapshot-flags.js';

export default class SnapshotCreate extends BaseCommand {
  static override summary = 'Keep what a raw image holds at this moment, while it is written to from now on.';
  static override description =
    'Takes no time and next to no room. From then on, vhdkit copies a chunk to a write-once device before it is ' +
    'overwritten for the first time: by sharing extents or inside the kernel where the storage can. So the image ' +
    'must be written to through vhdkit (serve, write, token write) as long as it has snapshots; when something ' +
    'else changed it, they are lost, and that is noticed and said.';
  static override examples = [
    {
      description: 'Of an image that nobody uses',
      command: '<%= config.bin %> snapshot create disk.img monday',
    },
    {
      description: 'Of one that is served, while it is written to',
      command: '<%= config.bin %> snapshot create disk.img monday --control vhdkit.sock',
    },
    {
      description: 'One that can be written to as well, as the export disk.img@before',
      command: '<%= config.bin %> snapshot create disk.img before --control vhdkit.sock --writable',
    },
    {
      description: 'With the old chunks on another disk',
      command: '<%= config.bin %> snapshot create disk.img monday --write-once /backup/monday.chunks',
    },
  ];
  static override args = {
    image: imageArg,
    name: optionalPathArg('Name of the snapshot; by default the time.'),
  };
  static override flags = {
    device: Flags.option({
      options: ['sparse', 'vhdx', 'thin'] as const,
      default: 'sparse' as const,
      summary: 'Kind of the write-once device: a sparse file, a VHDX, or a compact file.',
    })(),
    'chunk-size': size({
      summary:
        'What is copied at once (4K to 16M); 64K if not given, 1M in a VHDX. The same for all snapshots of an image.',
    }),
    'write-once': Flags.string({
      helpValue: '<path>',
      summary: 'Where the write-once device is to be, or is, if it is empty; a file or a block device.',
    }),
    'on-failure': Flags.option({
      options: ['fail-writes', 'break-snapshot'] as const,
      default: 'fail-writes' as const,
      summary: 'When an old chunk can not be kept (no room): refuse the write, or give the snapshot up.',
    })(),
    writable: Flags.boolean({
      dependsOn: ['control'],
      exclusive: ['write-once', 'folder', 'dry-run'],
      summary:
        'Of an image that is served: a volume that can be written to as well. What is written there shows in both.',
    }),
    folder: folderFlag,
    control: controlFlag,
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(SnapshotCreate);
    const host = await this.host();
    const common = {
      path: args.image,
      onFailure: flags['on-failure'],
      signal: this.signal,
      ...given({ name: args.name, chunkSize: flags['chunk-size'] }),
    };
    let result: SnapshotCreateResult;
    if (flags.writable && flags.control !== undefined) {
      const { createVolume } = await import('../../../operations/snapshot/live-volume.js');
      result = await createVolume(host, { ...common, control: flags.control });
    } else {
      const { createSnapshot } = await import('../../../operations/snapshot/create.js');
      const { device, folder, control, 'write-once': writeOnce, 'dry-run': dryRun } = flags;
      result = await createSnapshot(host, {
        ...common,
        device,
        dryRun,
        ...given({ folder, writeOnce, control }),
      });
    }
    const { renderSnapshotCreate } = await import('../../render/snapshot.js');
    await this.show(flags, result, (style) => (flags.quiet ? [] : renderSnapshotCreate(result, style)));
  }
}
