/** `vhdkit write`: bytes from stdin onto a disk. */
import { isatty } from 'node:tty';
import { BaseCommand } from '../base-command.js';
import { Flags, forceFlag, fromFlag, pathArg, size } from '../flags.js';
import { STDIN, stdinChunks, stdinLength } from '../stdin.js';
import { UsageError } from '../usage-error.js';

export default class Write extends BaseCommand {
  static override summary = 'Write bytes from stdin onto a disk.';
  static override description =
    'The image is changed in place, the top one of a chain; its parents stay as they are. Offset and length may ' +
    'be any number of bytes. At every moment each sector holds what it held, or what is written to it: after ' +
    'Ctrl-C or a power failure the image is sound. A file that is too long for the disk is refused; a pipe that ' +
    'is too long fills the disk up to its end and is an error.\n\nRefuses images that another process changes, ' +
    'mounted devices, and (without --force) images that are parents of others in the same folder.';
  static override examples = [
    {
      description: 'A boot sector',
      command: '<%= config.bin %> write disk.vhdx < mbr.bin',
    },
    {
      description: 'A partition that begins at 1 MiB, from another image',
      command:
        '<%= config.bin %> read a.vhdx --offset 1M --length 4G | <%= config.bin %> write b.vhd --offset 1M',
    },
    {
      description: 'Wipe the first MiB',
      command: '<%= config.bin %> write disk.vhd --length 1M --zeros scan < /dev/zero',
    },
  ];
  static override args = { image: pathArg('Image file or block device.') };
  static override flags = {
    from: fromFlag(),
    offset: size({ summary: 'Where on the disk to begin; the beginning if not given.' }),
    length: size({
      summary: 'How much to take from stdin, which must have as much; all of it if not given.',
    }),
    zeros: Flags.option({
      options: ['data', 'scan'] as const,
      default: 'data' as const,
      summary: 'Store zeros like other bytes, or let 64 KiB runs of them take no space where possible.',
    })(),
    force: forceFlag('Write to an image that others in its folder depend on; they will not fit it any more.'),
    'dry-run': Flags.boolean({ summary: 'Check what can be checked and change nothing; stdin is not read.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Write);
    if (isatty(STDIN) && !flags['dry-run'])
      throw new UsageError(
        'write does not read bytes from a terminal',
        'Send them in: `< FILE`, or `COMMAND | vhdkit write IMAGE`.',
      );
    const { write } = await import('../../operations/write.js');
    const { renderWrite } = await import('../render/write.js');
    const host = await this.host();
    const inputLength = await stdinLength();
    const result = await this.withProgress(flags, 'Writing', (progress) =>
      write(host, {
        path: args.image,
        input: stdinChunks(this.signal),
        inputLength,
        zeros: flags.zeros,
        force: flags.force,
        dryRun: flags['dry-run'],
        signal: this.signal,
        progress,
        ...(flags.from ? { format: flags.from } : {}),
        ...(flags.offset === undefined ? {} : { offset: flags.offset }),
        ...(flags.length === undefined ? {} : { length: flags.length }),
      }),
    );
    const show = flags['dry-run'] || !flags.quiet;
    await this.show(flags, result, (style) => (show ? renderWrite(result, style) : []));
  }
}
