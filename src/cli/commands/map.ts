/** `vhdkit map`: where the bytes of a disk are. */
import { BaseCommand } from '../base-command.js';
import { Flags, forceFlag, fromFlag, pathArg, withoutParentFlag } from '../flags.js';

export default class MapCommand extends BaseCommand {
  static override summary = 'Show where the bytes of a disk are: extents, and a picture of the blocks.';
  static override description =
    'Every extent has a state: data (stored in a file), zero (reads as zeros) or absent (only with ' +
    '--without-parent: the parent has it). Depth 0 is the image itself, 1 its parent, and so on. On a terminal ' +
    'long lists are shortened.';
  static override examples = [
    { description: 'An image', command: '<%= config.bin %> map disk.vhdx' },
    {
      description: 'The extents, for a script',
      command: "<%= config.bin %> map disk.vhd --json | jq '.extents[]'",
    },
    { description: 'The picture as a file', command: '<%= config.bin %> map disk.vhdx --svg disk.svg' },
    {
      description: 'What a differencing image itself holds',
      command: '<%= config.bin %> map child.vhdx --without-parent',
    },
  ];
  static override args = { image: pathArg('Image file or block device.') };
  static override flags = {
    from: fromFlag(),
    svg: Flags.string({ summary: 'Write the picture to this file.', helpValue: '<file>' }),
    force: forceFlag('Overwrite the file of --svg if it is there.'),
    'without-parent': withoutParentFlag,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(MapCommand);
    const { openMap } = await import('../../operations/map.js');
    const host = await this.host();
    const map = await openMap(host, {
      path: args.image,
      withoutParent: flags['without-parent'],
      signal: this.signal,
      ...(flags.from ? { format: flags.from } : {}),
    });
    try {
      if (map.parentProblem) this.warnOf(flags, map.parentProblem);
      const { BlockMap } = await import('../render/block-map.js');
      const { printMapJson, printMapText } = await import('../render/map.js');
      const picture = new BlockMap(
        map.virtualSize,
        map.blockSize,
        flags.svg === undefined ? 'terminal' : 'file',
      );
      if (flags.json) await printMapJson(map, picture);
      else await printMapText(map, picture, args.image, await this.style(flags));
      if (flags.svg !== undefined) {
        const { saveSvg } = await import('../render/block-map-svg.js');
        await saveSvg(host.fileSystem, flags.svg, picture, args.image, flags.force);
      }
    } finally {
      await map.close();
    }
  }
}
