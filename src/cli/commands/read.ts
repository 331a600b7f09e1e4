/** `vhdkit read`: bytes of a disk to stdout. */
import { throwIfAborted } from '../../base/errors.js';
import { BaseCommand } from '../base-command.js';
import { fromFlag, pathArg, size, withoutParentFlag } from '../flags.js';
import { writeOut } from '../output.js';
import { UsageError } from '../usage-error.js';

export default class Read extends BaseCommand {
  static override summary = 'Write bytes of a disk to stdout.';
  static override description =
    'Reads through the chain of a differencing image. Refuses to write to a terminal.';
  static override examples = [
    {
      description: 'The first sector, as a dump',
      command: '<%= config.bin %> read disk.vhdx --length 512 | hexdump -C',
    },
    {
      description: 'A partition that begins at 1 MiB',
      command: '<%= config.bin %> read disk.vhd --offset 1M --length 4G > part.img',
    },
    { description: 'A checksum of the whole disk', command: '<%= config.bin %> read disk.vhdx | sha256sum' },
  ];
  static override args = { image: pathArg('Image file or block device.') };
  static override flags = {
    from: fromFlag(),
    offset: size({ summary: 'Where on the disk to begin; the beginning if not given.' }),
    length: size({ summary: 'How much to read; up to the end if not given.' }),
    'without-parent': withoutParentFlag,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Read);
    if (flags.json) throw new UsageError('read writes bytes, not JSON', 'Leave out --json.');
    if (process.stdout.isTTY)
      throw new UsageError(
        'read does not write bytes to a terminal',
        'Send them somewhere: `> FILE`, or `| hexdump -C`.',
      );
    const { openRead } = await import('../../operations/read.js');
    const reader = await openRead(await this.host(), {
      path: args.image,
      withoutParent: flags['without-parent'],
      signal: this.signal,
      ...(flags.from ? { format: flags.from } : {}),
      ...(flags.offset === undefined ? {} : { offset: flags.offset }),
      ...(flags.length === undefined ? {} : { length: flags.length }),
    });
    try {
      for await (const chunk of reader.chunks()) {
        throwIfAborted(this.signal, 'read disk');
        await writeOut(chunk);
      }
    } finally {
      await reader.close();
    }
  }
}
