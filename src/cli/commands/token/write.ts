/** `vhdkit token write`: makes what tokens stand for appear on a disk. */
import { BaseCommand } from '../../base-command.js';
import { Flags, forceFlag, fromFlag, pathArg, providerFlag, size } from '../../flags.js';
import { tokenStoreFlag } from '../../token-flags.js';

const STAGES = { search: 'Looking for blocks', write: 'Writing', verify: 'Verifying' } as const;

export default class TokenWrite extends BaseCommand {
  static override summary = 'Make the data that tokens stand for appear on a disk.';
  static override description =
    'The target is changed in place: a raw image or block device, or a VHD or VHDX (the top of its chain). Extents ' +
    'are shared where the storage can (XFS, Btrfs); otherwise the kernel copies, or bytes are read and written. All ' +
    'tokens are checked before anything is written: that they are genuine and alive, that this user may read the ' +
    'data, and that it is what it was. A write that has begun goes on when a token is revoked, unless --on-revoke abort ' +
    'is given. Where checksums came along ' +
    '(`token read --checksum`), the target is read back and compared with them; the source is not.\n\n' +
    'Where hashes came along (`token read --hash`), --have names images to look for the data in: as clones of this ' +
    'moment if their storage allows, else each block is checked again while it is copied. Tokens whose data is all ' +
    'found need not be valid any more. Name only images that whoever may read the target may read.';
  static override examples = [
    {
      description: 'At the beginning of a raw image',
      command: '<%= config.bin %> token write t.tok lun.img',
    },
    {
      description: 'One GiB of what the tokens stand for, into a VHDX at 4 GiB',
      command: '<%= config.bin %> token write t.tok disk.vhdx --offset 4G --token-offset 1G --length 1G',
    },
    {
      description: 'Only what an older copy of the disk lacks is moved',
      command: '<%= config.bin %> token write t.tok lun.img --have yesterday.vhdx',
    },
    {
      description: 'Not by the cheapest way, whichever that is here, but by the next',
      command: '<%= config.bin %> token write t.tok lun.img --provider skip-1',
    },
    { description: 'How it would be done', command: '<%= config.bin %> token write t.tok lun.img --dry-run' },
  ];
  static override args = {
    tokens: pathArg('Token file.'),
    image: pathArg('Image file or block device to write to.'),
  };
  static override flags = {
    from: fromFlag('Format of the target; without it the content is probed, head and tail.'),
    offset: size({ summary: 'Where on the disk to begin; the beginning if not given.' }),
    'token-offset': size({ summary: 'Where to begin in what the tokens stand for; 0 if not given.' }),
    length: size({ summary: 'How much to write; all that the tokens stand for if not given.' }),
    provider: providerFlag,
    rate: size({
      summary: 'Bytes per second to read or copy at most (50M); shared extents and zeros are free.',
      helpValue: '<size>',
    }),
    'on-revoke': Flags.option({
      options: ['finish', 'abort'] as const,
      default: 'finish' as const,
      summary: 'When a token is revoked meanwhile: write all, or stop within a second and leave a part.',
    })(),
    'token-store': tokenStoreFlag,
    force: forceFlag('Write to an image that others in its folder depend on; they will not fit it any more.'),
    have: Flags.string({
      multiple: true,
      helpValue: '<image>',
      summary:
        'Image that may hold some of the data: blocks with the right hash are taken from it. Repeatable.',
    }),
    verify: Flags.boolean({
      allowNo: true,
      default: true,
      summary: 'Read the target back and compare it with the checksums, if there are any.',
    }),
    'dry-run': Flags.boolean({ summary: 'Say what would be done and change nothing.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(TokenWrite);
    const { writeToken } = await import('../../../operations/token/write.js');
    const host = await this.host();
    const result = await this.withProgress(flags, 'Writing', (progress, next) =>
      writeToken(host, {
        tokens: args.tokens,
        target: args.image,
        provider: flags.provider,
        force: flags.force,
        dryRun: flags['dry-run'],
        signal: this.signal,
        verify: flags.verify,
        onRevoke: flags['on-revoke'],
        onStage: (stage) => next(STAGES[stage]),
        ...(flags.have ? { have: flags.have } : {}),
        progress,
        ...(flags.from ? { format: flags.from } : {}),
        ...(flags.offset === undefined ? {} : { offset: flags.offset }),
        ...(flags['token-offset'] === undefined ? {} : { tokenOffset: flags['token-offset'] }),
        ...(flags.length === undefined ? {} : { length: flags.length }),
        ...(flags.rate === undefined ? {} : { rate: flags.rate }),
        ...(flags['token-store'] === undefined ? {} : { store: flags['token-store'] }),
      }),
    );
    const { renderTokenWrite } = await import('../../render/token.js');
    const show = flags['dry-run'] || !flags.quiet;
    await this.show(flags, result, (style) => (show ? renderTokenWrite(result, style) : []));
  }
}
