/** `vhdkit token verify`: compares a disk with the checksums that came with tokens. */
import { BaseCommand } from '../../base-command.js';
import { fromFlag, pathArg, size } from '../../flags.js';
import { tokenStoreFlag } from '../../token-flags.js';

export default class TokenVerify extends BaseCommand {
  static override summary = 'Compare a disk with the checksums that came with tokens.';
  static override description =
    'What the tokens stand for is not read, and they are not used: their life may be over. Chunks of 64 KiB that lie ' +
    'in the range as a whole are compared, and zeros. `token write` does this by itself at its end.';
  static override examples = [
    {
      description: 'What was written yesterday',
      command: '<%= config.bin %> token verify t.tok lun.img',
    },
    {
      description: 'A part of it, which was written elsewhere',
      command: '<%= config.bin %> token verify t.tok disk.vhdx --offset 4G --token-offset 1G --length 1G',
    },
  ];
  static override args = {
    tokens: pathArg('Token file, made with --checksum.'),
    image: pathArg('Image file or block device that holds the data.'),
  };
  static override flags = {
    from: fromFlag(),
    offset: size({ summary: 'Where on the disk the data is; the beginning if not given.' }),
    'token-offset': size({ summary: 'Where to begin in what the tokens stand for; 0 if not given.' }),
    length: size({ summary: 'How much to compare; all that the tokens stand for if not given.' }),
    'token-store': tokenStoreFlag,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(TokenVerify);
    const { verifyTokens } = await import('../../../operations/token/verify.js');
    const host = await this.host();
    const result = await this.withProgress(flags, 'Verifying', (progress) =>
      verifyTokens(host, {
        tokens: args.tokens,
        target: args.image,
        signal: this.signal,
        progress,
        ...(flags.from ? { format: flags.from } : {}),
        ...(flags.offset === undefined ? {} : { offset: flags.offset }),
        ...(flags['token-offset'] === undefined ? {} : { tokenOffset: flags['token-offset'] }),
        ...(flags.length === undefined ? {} : { length: flags.length }),
        ...(flags['token-store'] === undefined ? {} : { store: flags['token-store'] }),
      }),
    );
    const { renderTokenVerify } = await import('../../render/token.js');
    await this.show(flags, result, (style) => (flags.quiet ? [] : renderTokenVerify(result, style)));
  }
}
