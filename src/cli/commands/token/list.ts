/** `vhdkit token list`: the tokens of a store. */
import { BaseCommand } from '../../base-command.js';
import { tokenStoreFlag } from '../../token-flags.js';

export default class TokenList extends BaseCommand {
  static override summary = 'List the tokens of a token store.';
  static override description =
    'Tokens that ended (expired, revoked, evicted, closed) are listed for a day after it. Also tells how much of its ' +
    'limits the store uses, and how many tokens were refused, and why.';
  static override examples = [
    { description: 'The tokens of this user', command: '<%= config.bin %> token list' },
    {
      description: 'What keeps storage, for scripts',
      command: "<%= config.bin %> token list --json | jq '.tokens[] | select(.keptBytes > 0)'",
    },
  ];
  static override flags = { 'token-store': tokenStoreFlag };

  async run(): Promise<void> {
    const { flags } = await this.parse(TokenList);
    const { listTokens } = await import('../../../operations/token/show.js');
    const store = flags['token-store'];
    const result = await listTokens(await this.host(), store === undefined ? {} : { store });
    const { renderTokenList } = await import('../../render/token.js');
    await this.show(flags, result, (style) => renderTokenList(result, style));
  }
}
