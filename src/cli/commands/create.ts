/** `vhdkit create`: a new, empty image. */
import { BaseCommand } from '../base-command.js';
import { blockSizeFlag, Flags, forceFlag, pathArg, sizeArg, toFlag } from '../flags.js';
import { UsageError } from '../usage-error.js';

const SECTORS = { '512': 512, '4096': 4096 } as const;
const sectorFlag = Flags.option({ options: ['512', '4096'] as const });

/** @throws UsageError when size, type and parent contradict each other */
function assertFits(type: string | undefined, parent: string | undefined, size: number | undefined): void {
  if (type === 'differencing' && parent === undefined)
    throw new UsageError(
      'A differencing image needs --parent',
      'Name the image it is made over: `vhdkit create child.vhdx --type differencing --parent base.vhdx`.',
    );
  if (type !== 'differencing' && parent !== undefined)
    throw new UsageError('--parent goes with --type differencing', 'Add it, or leave --parent out.');
  if (type !== 'differencing' && size === undefined)
    throw new UsageError(
      'Missing argument: SIZE',
      'Say how large the disk is to be: `vhdkit create disk.vhdx 64G`.',
    );
}

export default class Create extends BaseCommand {
  static override summary = 'Make a new, empty image, or a differencing one over a parent.';
  static override description =
    'The image appears under its name when it is complete. Dynamic images start small and grow as they are ' +
    'written; fixed images have their full size at once (without using storage for it where files can have holes).';
  static override examples = [
    { description: 'A dynamic VHDX of 64 GiB', command: '<%= config.bin %> create disk.vhdx 64G' },
    {
      description: 'A fixed VHD, as Azure takes it',
      command: '<%= config.bin %> create disk.vhd 32G --type fixed',
    },
    {
      description: 'A VHDX with 4 KiB sectors and large blocks',
      command: '<%= config.bin %> create disk.vhdx 1T --sector-size 4096 --block-size 256M',
    },
    {
      description: 'A differencing image over a parent, as large as that',
      command: '<%= config.bin %> create child.vhdx --type differencing --parent base.vhdx',
    },
    { description: 'A raw image', command: '<%= config.bin %> create lun0.bin 10G -O raw' },
  ];
  static override args = {
    image: pathArg('Image to make.'),
    size: sizeArg({
      description: 'Size of the disk: 512M, 64G, 1T. Of a differencing image by default that of its parent.',
    }),
  };
  static override flags = {
    to: toFlag,
    type: Flags.option({
      options: ['dynamic', 'fixed', 'differencing'] as const,
      summary: 'Allocate blocks as they are written, or all of them, or over a parent.',
    })(),
    parent: Flags.string({
      summary:
        'Image that a differencing one is made over; of the same format, and not to be changed any more.',
      helpValue: '<file>',
    }),
    'block-size': blockSizeFlag,
    'sector-size': sectorFlag({ summary: 'Logical sector size in bytes (VHDX).' }),
    'physical-sector-size': sectorFlag({ summary: 'Physical sector size in bytes (VHDX).' }),
    force: forceFlag(),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Create);
    const { type, parent } = flags;
    assertFits(flags.type, flags.parent, args.size);
    const logical = flags['sector-size'];
    const physical = flags['physical-sector-size'];
    const { create } = await import('../../operations/create.js');
    const result = await create(await this.host(), {
      path: args.image,
      force: flags.force,
      ...(flags.to ? { format: flags.to } : {}),
      ...(args.size === undefined ? {} : { size: args.size }),
      ...(parent === undefined ? {} : { parent }),
      ...(type ? { type } : {}),
      ...(flags['block-size'] === undefined ? {} : { blockSize: flags['block-size'] }),
      ...(logical ? { logicalSectorSize: SECTORS[logical] } : {}),
      ...(physical ? { physicalSectorSize: SECTORS[physical] } : {}),
    });
    await this.warnAbout(flags, result.warnings);
    const { renderCreate } = await import('../render/create.js');
    await this.show(flags, result, (style) => (flags.quiet ? [] : renderCreate(result, style)));
  }
}
