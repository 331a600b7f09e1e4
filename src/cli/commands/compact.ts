/** `vhdkit compact`: give back what an image does not need. */
import { BaseCommand } from '../base-command.js';
import { Flags, forceFlag, fromFlag, pathArg, providerFlag, size } from '../flags.js';

export default class Compact extends BaseCommand {
  static override summary = 'Give back blocks that nobody needs, and make the file short.';
  static override description =
    'Blocks of zeros become unallocated; with --free-space also blocks that the file systems on the disk hold ' +
    'free: ext2/3/4, NTFS, FAT, exFAT and more, read offline, without root and without mounting. What is not ' +
    'understood, encrypted or not cleanly unmounted is kept as it is, and the report says why. Then the last ' +
    'blocks move into the gaps and the file is cut off, in place, without a second copy.\n\n' +
    'Free space inside blocks that stay becomes holes in the file, where the host can. What the file systems ' +
    'use is never touched; an interrupted run can be repeated. Raw images keep their length and become sparse.';
  static override examples = [
    { description: 'Blocks of zeros', command: '<%= config.bin %> compact disk.vhdx' },
    {
      description: 'Everything that the guest deleted, too',
      command: '<%= config.bin %> compact disk.vhdx --free-space --zeros',
    },
    {
      description: 'The disk of a WSL distribution; stop it first',
      command: '<%= config.bin %> compact ext4.vhdx --free-space',
    },
    {
      description: 'What would it give back, and why?',
      command: '<%= config.bin %> compact disk.vhd --free-space --dry-run',
    },
    {
      description: 'Leave the image alone, write a compact copy',
      command: '<%= config.bin %> compact disk.vhdx --free-space --to small.vhdx',
    },
  ];
  static override args = { image: pathArg('Image to compact.') };
  static override flags = {
    from: fromFlag(),
    zeros: Flags.boolean({
      summary: 'Give back blocks of zeros (in a child: of what its parent shows); the default.',
    }),
    'free-space': Flags.boolean({ summary: "Give back what the guest's file systems hold free." }),
    to: Flags.string({
      helpValue: '<image>',
      summary: 'Write a compact copy to this new file instead of changing the image.',
    }),
    force: forceFlag('Also an image that others depend on: they can not be used any more.'),
    provider: providerFlag,
    rate: size({ summary: 'Bytes per second to read or copy at most (50M).', helpValue: '<size>' }),
    'dry-run': Flags.boolean({ summary: 'Say what would be given back and why; change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Compact);
    const host = await this.host();
    const { compact } = await import('../../operations/compact.js');
    const { takePicture, renderPictures } = await import('../render/pictures.js');
    const { renderCompact } = await import('../render/compact.js');
    const pictured = !flags.json && !flags.quiet;
    const picture = (path: string) =>
      pictured ? takePicture(host, path, flags.from, this.signal) : Promise.resolve(undefined);
    const before = await picture(args.image);
    const result = await this.withProgress(flags, 'Looking for unused blocks', (progress, next) =>
      compact(host, {
        path: args.image,
        zeroBlocks: flags.zeros || !flags['free-space'],
        freeSpace: flags['free-space'],
        force: flags.force,
        provider: flags.provider,
        dryRun: flags['dry-run'],
        signal: this.signal,
        progress,
        onMove: () => next('Moving blocks'),
        ...(flags.to === undefined ? {} : { to: flags.to }),
        ...(flags.from ? { format: flags.from } : {}),
        ...(flags.rate === undefined ? {} : { rate: flags.rate }),
      }),
    );
    const after = flags['dry-run'] ? undefined : await picture(flags.to ?? args.image);
    await this.show(flags, result, (style) =>
      flags['dry-run'] || !flags.quiet
        ? [...renderCompact(result, style), ...renderPictures(before, after, style)]
        : [],
    );
  }
}
