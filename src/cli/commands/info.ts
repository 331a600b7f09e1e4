/** `vhdkit info`: what an image is. */
import { BaseCommand } from '../base-command.js';
import { Flags, fromFlag, pathArg } from '../flags.js';

export default class Info extends BaseCommand {
  static override summary = 'Show what an image is: format, sizes, ids, parent, fragmentation.';
  static override description =
    'Reads the structures of an image and nothing else. A parent that is missing is reported, not an error.';
  static override examples = [
    { description: 'An image', command: '<%= config.bin %> info disk.vhdx' },
    {
      description: 'A differencing image with all its parents',
      command: '<%= config.bin %> info child.avhdx --chain',
    },
    {
      description: 'The virtual size, for a script',
      command: '<%= config.bin %> info disk.vhd --json | jq .virtualSize',
    },
  ];
  static override args = { image: pathArg('Image file or block device.') };
  static override flags = {
    from: fromFlag(),
    chain: Flags.boolean({ summary: 'Show the parents as well, up to the base.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Info);
    const { info } = await import('../../operations/info.js');
    const { renderInfo } = await import('../render/info.js');
    const result = await info(await this.host(), {
      path: args.image,
      chain: flags.chain,
      ...(flags.from ? { format: flags.from } : {}),
    });
    await this.show(flags, result, (style) => renderInfo(result, style));
  }
}
