/** `vhdkit convert`: one disk into another image or onto a device. */
import type { FormatId } from '../../formats/disk-image.js';
import { BaseCommand, type GlobalFlags } from '../base-command.js';
import {
  blockSizeFlag,
  Flags,
  forceFlag,
  fromFlag,
  globalFlags,
  optionalPathArg,
  pathArg,
  profileFlag,
  providerFlag,
  size,
  toFlag,
  typeFlag,
} from '../flags.js';
import type { Style } from '../render/style.js';
import { streamsOf } from '../streams.js';
import { UsageError } from '../usage-error.js';

const sectorSize = Flags.option({ options: ['512', '4096'] as const });

/** What `--in-place` goes with, and what every command has. */
const IN_PLACE_FLAGS: ReadonlySet<string> = new Set([
  'in-place',
  'type',
  'from',
  'zeros',
  'dry-run',
  ...Object.keys(globalFlags),
]);

interface InPlaceFlags {
  type: 'dynamic' | 'fixed' | undefined;
  from: FormatId | undefined;
  zeros: 'scan' | 'holes' | undefined;
  'dry-run': boolean;
}

function sectorBytes(text: '512' | '4096'): 512 | 4096 {
  return text === '512' ? 512 : 4096;
}

export default class Convert extends BaseCommand {
  static override summary = 'Convert a disk to another format, sharing extents where the storage can.';
  static override description =
    'Flattens a chain of differencing images into the target. The target appears under its name when it is ' +
    'complete. Where source and target lie on a file system that can share extents (XFS, Btrfs) no ' +
    'bytes are copied; elsewhere the kernel copies them, or vhdkit does.\n\n' +
    'As a target, - writes the image to stdout in one pass, never seeking; what was done is then said on ' +
    'stderr, and --json is refused. As a source, - reads stdin: a raw disk goes straight into a raw target, ' +
    'and with --size into any; everything else is spooled into an unnamed temporary file, which is said on ' +
    'stderr.';
  static override examples = [
    { description: 'A VHDX to a raw image', command: '<%= config.bin %> convert disk.vhdx disk.raw' },
    {
      description: 'A raw image to a fixed VHD',
      command: '<%= config.bin %> convert lun0.img disk.vhd --type fixed',
    },
    {
      description: 'For an upload to Azure, read back and compared before it appears',
      command: '<%= config.bin %> convert disk.vhdx disk.vhd --for azure --verify',
    },
    { description: 'Onto a block device', command: '<%= config.bin %> convert disk.vhdx /dev/sdx --force' },
    {
      description: 'Compressed, through pipes',
      command: '<%= config.bin %> convert disk.vhdx - -O raw | zstd > disk.raw.zst',
    },
    {
      description: 'And back',
      command: 'zstd -dc disk.raw.zst | <%= config.bin %> convert - disk.vhdx -f raw --size 20G',
    },
    {
      description: 'Gently, on a machine with other work',
      command: '<%= config.bin %> convert disk.vhdx disk.vhd --rate 50M',
    },
    {
      description: 'A dynamic image becomes fixed where it is, without a second copy',
      command: '<%= config.bin %> convert disk.vhdx --in-place --type fixed',
    },
    { description: 'What would happen', command: '<%= config.bin %> convert disk.vhd disk.vhdx --dry-run' },
  ];
  static override args = {
    source: pathArg('Image or block device to read; - is stdin.'),
    target: optionalPathArg('Image or block device to write; - is stdout.'),
  };
  static override flags = {
    from: fromFlag(),
    to: toFlag,
    for: profileFlag('Choose format, type, sizes and blocks for this platform; refuse what it would reject.'),
    type: typeFlag,
    'block-size': blockSizeFlag,
    'sector-size': sectorSize({
      summary: 'Logical sector size of the target; without it, that of the disk. VHD: always 512.',
    }),
    'source-sector-size': sectorSize({
      summary: 'Sector size a raw source was made for; without it, where its GPT lies tells, else 512.',
    }),
    reblock: Flags.boolean({
      summary: 'Rewrite the partition table where the sector size changes.',
      description:
        'GPT (both copies) or MBR; partitions stay where they are to the byte. Without this, a disk whose ' +
        'partitions would not be found on the target is refused.',
    }),
    provider: providerFlag,
    zeros: Flags.option({
      options: ['scan', 'holes'] as const,
      summary: "Look for blocks that merely contain zeros, or go by the source's holes only.",
      description: 'Default: scan where payload is read or copied anyway, holes where extents are shared.',
    })(),
    verify: Flags.boolean({
      summary: 'Read the result back and compare it with the source before it appears; print its SHA-256.',
      description:
        'A dynamic VHD is read by vhd-lib, the independent reader of Xen Orchestra; the rest by vhdkit, after ' +
        "the system's cache of the file was dropped. If anything differs, nothing is published.",
    }),
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
    size: size({
      summary: 'Size of the raw disk that comes from stdin: it is then converted without being spooled.',
    }),
    'temp-dir': Flags.string({
      helpValue: '<folder>',
      summary: 'Where stdin is spooled if it must be; beside the target, or in TMPDIR, if not given.',
    }),
    rate: size({
      summary: 'Bytes per second to read or copy at most (50M); shared extents and holes are free.',
      helpValue: '<size>',
    }),
    'in-place': Flags.boolean({
      summary: 'Change the type (--type) of SOURCE where it is, without a second copy; there is no TARGET.',
      description:
        'VHDX and raw images keep their file: blocks get storage, or blocks of zeros give it back. A VHD needs ' +
        'another layout, which is made by sharing extents (XFS, Btrfs) and refused elsewhere.',
    }),
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags, metadata } = await this.parse(Convert);
    if (flags['in-place']) {
      const given = Object.keys(flags).filter((name) => !metadata.flags[name]?.setFromDefault);
      return this.#inPlace(args, flags, given);
    }
    if (args.target === undefined) {
      throw new UsageError('Missing argument: TARGET', 'See `vhdkit convert --help`.');
    }
    const { target } = args;
    const streams = streamsOf(args.source, target, flags, this.signal);
    const host = await this.host();
    const { convert } = await import('../../operations/convert.js');
    const result = await this.withProgress(flags, 'Converting', (progress, next) =>
      convert(host, {
        source: args.source,
        target,
        provider: flags.provider,
        zeros: flags.zeros ?? 'auto',
        force: flags.force,
        dryRun: flags['dry-run'],
        resume: flags.resume,
        verify: flags.verify,
        onVerify: () => next('Verifying'),
        ...(flags.for ? { profile: flags.for } : {}),
        snapshotSource: flags['snapshot-source'],
        signal: this.signal,
        progress,
        ...streams,
        notice: (text) => this.tell(flags, text),
        ...(flags.from ? { from: flags.from } : {}),
        ...(flags.to ? { to: flags.to } : {}),
        ...(flags.type ? { type: flags.type } : {}),
        ...(flags['sector-size'] ? { sectorSize: sectorBytes(flags['sector-size']) } : {}),
        ...(flags['source-sector-size']
          ? { sourceSectorSize: sectorBytes(flags['source-sector-size']) }
          : {}),
        reblock: flags.reblock,
        ...(flags['block-size'] === undefined ? {} : { blockSize: flags['block-size'] }),
        ...(flags.rate === undefined ? {} : { rate: flags.rate }),
      }),
    );
    await this.warnAbout(flags, result.warnings);
    const { renderConvert } = await import('../render/convert.js');
    const show = flags['dry-run'] || !flags.quiet;
    const onStderr = streams.output !== undefined && !flags['dry-run'];
    const lines = (style: Style): string[] => (show ? renderConvert(result, style) : []);
    await (onStderr ? this.showAside(flags, lines) : this.show(flags, result, lines));
  }

  async #inPlace(
    { source: path, target }: { source: string; target: string | undefined },
    flags: GlobalFlags & InPlaceFlags,
    given: readonly string[],
  ): Promise<void> {
    const { type } = flags;
    const other = given.find((name) => !IN_PLACE_FLAGS.has(name));
    if (target !== undefined || other !== undefined) {
      const what = target === undefined ? `--${other}` : 'a TARGET';
      throw new UsageError(`--in-place does not go with ${what}`, 'Leave one of them out.');
    }
    if (type === undefined) {
      throw new UsageError('--in-place needs --type', 'Add --type fixed or --type dynamic.');
    }
    const host = await this.host();
    const { convertInPlace } = await import('../../operations/convert-in-place.js');
    const result = await this.withProgress(flags, 'Converting', (progress) =>
      convertInPlace(host, {
        path,
        type,
        dryRun: flags['dry-run'],
        signal: this.signal,
        progress,
        ...(flags.from ? { format: flags.from } : {}),
        ...(flags.zeros ? { zeros: flags.zeros } : {}),
      }),
    );
    await this.warnAbout(flags, result.warnings);
    const { renderConvertInPlace } = await import('../render/convert-in-place.js');
    const show = flags['dry-run'] || !flags.quiet;
    await this.show(flags, result, (style) => (show ? renderConvertInPlace(result, style) : []));
  }
}
