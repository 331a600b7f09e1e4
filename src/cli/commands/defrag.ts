/** `vhdkit defrag`: blocks in the order of the disk. */
import { BaseCommand } from '../base-command.js';
import { Flags, fromFlag, pathArg, providerFlag, size } from '../flags.js';

export default class Defrag extends BaseCommand {
  static override summary = 'Bring the blocks of an image into the order of the disk, payload aligned.';
  static override description =
    'Blocks that are in place stay; the others move straight to where they belong, and one of each cycle ' +
    'makes room first. Where extents can be shared (XFS, Btrfs) no payload is copied. The disk shows the same ' +
    'at every instant; an interrupted run can be repeated. Differencing images that depend on the image stay ' +
    'valid.\n\n' +
    "With --host, the file itself is brought into fewer extents on the host's file system: a copy in one go " +
    'takes its place, if it would lie better; that works for images of every format.';
  static override examples = [
    { description: 'An image that grew for years', command: '<%= config.bin %> defrag disk.vhdx' },
    { description: 'How bad is it?', command: '<%= config.bin %> defrag disk.vhd --dry-run' },
    {
      description: 'Also lay the file out anew on the host',
      command: '<%= config.bin %> defrag disk.vhdx --host',
    },
    {
      description: 'An old VHD, so that conversions can share its extents',
      command: '<%= config.bin %> defrag disk.vhd --align 4K',
    },
  ];
  static override args = { image: pathArg('Image to defragment.') };
  static override flags = {
    from: fromFlag(),
    align: size({
      summary: 'Alignment of payload in the file (VHD: 4K if not given; VHDX: 1M).',
    }),
    host: Flags.boolean({
      summary: "Also lay the file out anew where the host's file system scattered it.",
    }),
    provider: providerFlag,
    rate: size({ summary: 'Bytes per second to read or copy at most (50M).', helpValue: '<size>' }),
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Defrag);
    const host = await this.host();
    const { defrag } = await import('../../operations/defrag.js');
    const { takePicture, renderPictures } = await import('../render/pictures.js');
    const { renderDefrag } = await import('../render/defrag.js');
    const pictured = !flags.json && !flags.quiet;
    const picture = () =>
      pictured ? takePicture(host, args.image, flags.from, this.signal) : Promise.resolve(undefined);
    const before = await picture();
    const result = await this.withProgress(flags, 'Defragmenting', (progress, next) =>
      defrag(host, {
        path: args.image,
        provider: flags.provider,
        dryRun: flags['dry-run'],
        host: flags.host,
        signal: this.signal,
        progress,
        onHost: () => next('Laying the file out anew'),
        ...(flags.from ? { format: flags.from } : {}),
        ...(flags.align === undefined ? {} : { align: flags.align }),
        ...(flags.rate === undefined ? {} : { rate: flags.rate }),
      }),
    );
    const after = flags['dry-run'] ? undefined : await picture();
    await this.show(flags, result, (style) =>
      flags['dry-run'] || !flags.quiet
        ? [...renderDefrag(result, style), ...renderPictures(before, after, style)]
        : [],
    );
  }
}
