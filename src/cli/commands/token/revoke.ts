/** `vhdkit token revoke`: ends the life of tokens. */
import { BaseCommand } from '../../base-command.js';
import { Flags, optionalPathArg } from '../../flags.js';
import { tokenStoreFlag } from '../../token-flags.js';
import { UsageError } from '../../usage-error.js';

export default class TokenRevoke extends BaseCommand {
  static override summary = 'Make tokens useless at once, and give back what was kept for them.';
  static override description =
    'Holds for all who share the token store. No work with the tokens begins any more; what has begun goes on, unless ' +
    'it was begun with `token write --on-revoke abort`. With --hint a token that is in use stays until its users are ' +
    'done, and what is kept for it as well; it makes room first when a limit of the store is reached.';
  static override examples = [
    { description: 'The tokens of a file', command: '<%= config.bin %> token revoke t.tok' },
    { description: 'One of `token list`', command: '<%= config.bin %> token revoke 1f9a03c2d4b58e67' },
    { description: 'When nobody uses it any more', command: '<%= config.bin %> token revoke t.tok --hint' },
    { description: 'All of them', command: '<%= config.bin %> token revoke --all' },
  ];
  static override args = { token: optionalPathArg('Token file, or id from `token list`.') };
  static override flags = {
    all: Flags.boolean({ summary: 'Every token of the store.' }),
    hint: Flags.boolean({ summary: 'Let whoever uses a token finish first, and nobody else begin.' }),
    'token-store': tokenStoreFlag,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(TokenRevoke);
    if (flags.all === (args.token !== undefined))
      throw new UsageError(
        flags.all ? 'Either one token or --all' : 'Missing the token to revoke',
        'Name a token file or an id from `vhdkit token list`, or say --all.',
      );
    const { revokeTokens } = await import('../../../operations/token/revoke.js');
    const result = await revokeTokens(await this.host(), {
      all: flags.all,
      hint: flags.hint,
      ...(args.token === undefined ? {} : { which: args.token }),
      ...(flags['token-store'] === undefined ? {} : { store: flags['token-store'] }),
    });
    const { renderTokenRevoke } = await import('../../render/token.js');
    await this.show(flags, result, (style) => (flags.quiet ? [] : renderTokenRevoke(result, style)));
  }
}
