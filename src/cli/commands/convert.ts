/** `vhdkit convert`: one disk into another image or onto a device. */
import { VhdkitError } from '../../base/errors.js';
import { BaseCommand } from '../base-command.js';
import { blockSizeFlag, Flags, forceFlag, fromFlag, pathArg, toFlag, typeFlag } from '../flags.js';

export default class Convert extends BaseCommand {
  static override summary = 'Convert a disk to another format, sharing extents where the storage can.';
  static override description =
    'Flattens a chain of differencing images into the target. The target appears under its name when it is ' +
    'complete. Where source and target lie on a file system that can share extents (XFS, Btrfs) no ' +
    'bytes are copied; elsewhere the kernel copies them, or vhdkit does.';
  static override examples = [
    { description: 'A VHDX to a raw image', command: '<%= config.bin %> convert disk.vhdx disk.raw' },
    {
      description: 'A raw image to a fixed VHD',
      command: '<%= config.bin %> convert lun0.img disk.vhd --type fixed',
    },
    { description: 'Onto a block device', command: '<%= config.bin %> convert disk.vhdx /dev/sdx --force' },
    { description: 'What would happen', command: '<%= config.bin %> convert disk.vhd disk.vhdx --dry-run' },
  ];
  static override args = {
    source: pathArg('Image or block device to read.'),
    target: pathArg('Image or block device to write.'),
  };
  static override flags = {
    from: fromFlag(),
    to: toFlag,
    type: typeFlag,
    'block-size': blockSizeFlag,
    provider: Flags.option({
      options: ['auto', 'reflink', 'kernel', 'buffered'] as const,
      default: 'auto' as const,
      summary: 'Share extents, copy in the kernel, or read and write; auto: the cheapest that works.',
    })(),
    zeros: Flags.option({
      options: ['scan', 'holes'] as const,
      summary: "Look for blocks that merely contain zeros, or go by the source's holes only.",
      description: 'Default: scan where payload is read or copied anyway, holes where extents are shared.',
    })(),
    force: forceFlag(),
    resume: Flags.boolean({
      summary: 'Go on with what an interrupted run left behind; keep what this one did if it fails.',
      description:
        'A journal beside the target remembers how far the work is. If the source changed or the options ' +
        'are others, the conversion starts over and says so.',
    }),
    'snapshot-source': Flags.boolean({
      summary: 'Convert the source as it is at this moment, while it is written to (XFS, Btrfs).',
    }),
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Convert);
    refuseStreams(args.source, args.target);
    const host = await this.host();
    const { convert } = await import('../../operations/convert.js');
    const result = await this.withProgress(flags, 'Converting', (progress) =>
      convert(host, {
        source: args.source,
        target: args.target,
        provider: flags.provider,
        zeros: flags.zeros ?? 'auto',
        force: flags.force,
        dryRun: flags['dry-run'],
        resume: flags.resume,
        snapshotSource: flags['snapshot-source'],
        signal: this.signal,
        progress,
        ...(flags.from ? { from: flags.from } : {}),
        ...(flags.to ? { to: flags.to } : {}),
        ...(flags.type ? { type: flags.type } : {}),
        ...(flags['block-size'] === undefined ? {} : { blockSize: flags['block-size'] }),
      }),
    );
    await this.warnAbout(flags, result.warnings);
    const { renderConvert } = await import('../render/convert.js');
    const show = flags['dry-run'] || !flags.quiet;
    await this.show(flags, result, (style) => (show ? renderConvert(result, style) : []));
  }
}

function refuseStreams(source: string, target: string): void {
  if (source !== '-' && target !== '-') return;
  const which = source === '-' ? 'from stdin' : 'to stdout';
  throw new VhdkitError('UNSUPPORTED', `Converting ${which} (\`-\`) is not there yet`, {
    operation: 'convert image',
    hint:
      source === '-'
        ? 'Put the data into a file first; a file of that name is written ./-'
        : '`vhdkit read IMAGE` writes the contents of a disk to stdout; a file of that name is written ./-',
  });
}
