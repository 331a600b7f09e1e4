/** `vhdkit token show`: explains a token file. */
import { BaseCommand } from '../../base-command.js';
import { pathArg } from '../../flags.js';
import { tokenStoreFlag } from '../../token-flags.js';

export default class TokenShow extends BaseCommand {
  static override summary = 'Explain a token file, without its secrets.';
  static override description =
    'What each token stands for, and how it stands in the token store: valid, expired, revoked, unknown, forged, or ' +
    'of another store. Does not count as a use. Checksum and hash tokens that came along are named, too.';
  static override examples = [
    { description: 'A token file', command: '<%= config.bin %> token show t.tok' },
    { description: 'For scripts', command: '<%= config.bin %> token show t.tok --json' },
  ];
  static override args = { tokens: pathArg('Token file.') };
  static override flags = { 'token-store': tokenStoreFlag };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(TokenShow);
    const { showTokens } = await import('../../../operations/token/show.js');
    const result = await showTokens(await this.host(), {
      tokens: args.tokens,
      ...(flags['token-store'] === undefined ? {} : { store: flags['token-store'] }),
    });
    const { renderTokenShow } = await import('../../render/token.js');
    await this.show(flags, result, (style) => renderTokenShow(result, style));
  }
}
