/** `vhdkit resize`: another size for the disk of an image. */
import { BaseCommand } from '../base-command.js';
import { Flags, forceFlag, fromFlag, pathArg, sizeChangeArg } from '../flags.js';

export default class Resize extends BaseCommand {
  static override summary = 'Grow or shrink the disk of an image, in place.';
  static override description =
    'A larger disk gets zeros at its end. A smaller one loses what lies behind its new end: the partition ' +
    'table (GPT with both copies, MBR with logical partitions) or the file system of a disk without one is ' +
    'read first, and nothing in use is cut off without --shrink. A GPT keeps a copy at the end of the disk; ' +
    '--move-gpt moves it to the new end.\n\n' +
    'The image is consistent at every instant: it has the old or the new size, and a sound partition table. ' +
    'File systems keep their size; resize them in the guest, before shrinking or after growing.';
  static override examples = [
    { description: 'Half as much again', command: '<%= config.bin %> resize disk.vhdx 96G --move-gpt' },
    { description: '10 GiB more', command: '<%= config.bin %> resize disk.vhd +10G' },
    {
      description: 'What would be cut off?',
      command: '<%= config.bin %> resize disk.vhdx -20G --move-gpt --dry-run',
    },
    {
      description: 'Move the copy of the GPT only',
      command: '<%= config.bin %> resize disk.raw +0 --move-gpt',
    },
  ];
  static override args = {
    image: pathArg('Image to resize.'),
    size: sizeChangeArg('New size of the disk (64G), or how much more or less (+1G, -1G).'),
  };
  static override flags = {
    from: fromFlag(),
    shrink: Flags.boolean({
      summary: 'Cut off partitions and data that lie behind the new end. They are lost.',
    }),
    'move-gpt': Flags.boolean({ summary: 'Move the backup copy of the GPT to the end of the disk.' }),
    force: forceFlag('Also an image that others depend on: they can not be used any more.'),
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Resize);
    const { resize } = await import('../../operations/resize.js');
    const host = await this.host();
    const result = await this.withProgress(flags, 'Looking for data', (progress) =>
      resize(host, {
        path: args.image,
        size: args.size,
        shrink: flags.shrink,
        moveGpt: flags['move-gpt'],
        force: flags.force,
        dryRun: flags['dry-run'],
        signal: this.signal,
        progress,
        ...(flags.from ? { format: flags.from } : {}),
      }),
    );
    await this.warnAbout(flags, result.warnings);
    const { renderResize } = await import('../render/resize.js');
    const show = flags['dry-run'] || !flags.quiet;
    await this.show(flags, result, (style) => (show ? renderResize(result, style) : []));
  }
}
