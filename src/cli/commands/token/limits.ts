/** `vhdkit token limits`: what a token store may hold. */
import { BaseCommand } from '../../base-command.js';
import { countOrNone, sizeOrNone, tokenStoreFlag } from '../../token-flags.js';

export default class TokenLimits extends BaseCommand {
  static override summary = 'Show or set the limits of a token store.';
  static override description =
    'Limits hold for all who share the store. When a new token needs room, others make it: first what is over, then ' +
    'what was revoked with a hint, then tokens of lower --priority, and of equal priority the one whose time would ' +
    'be over first, which is the one not used for longest. Tokens in use and tokens of higher priority than the new ' +
    'one are never evicted; if nothing else is left, the new one is refused. For --kept only tokens that keep storage ' +
    'count. Lowering a limit evicts nothing at once.';
  static override examples = [
    { description: 'What there is', command: '<%= config.bin %> token limits' },
    {
      description: 'At most 1000 tokens, and 50 GiB kept for persistent ones',
      command: '<%= config.bin %> token limits --tokens 1000 --kept 50G',
    },
    { description: 'Any number of tokens', command: '<%= config.bin %> token limits --tokens none' },
  ];
  static override flags = {
    tokens: countOrNone({ summary: 'Tokens that are alive at a time.' }),
    kept: sizeOrNone({ summary: 'Storage kept for persistent tokens.' }),
    memory: sizeOrNone({
      summary: 'Memory that each process may take for tokens it knows; 32M if there is no limit.',
    }),
    'token-store': tokenStoreFlag,
  };

  async run(): Promise<void> {
    const { flags } = await this.parse(TokenLimits);
    const { tokenLimits } = await import('../../../operations/token/limits.js');
    const result = await tokenLimits(await this.host(), {
      change: {
        ...(flags.tokens === undefined ? {} : { tokens: flags.tokens }),
        ...(flags.kept === undefined ? {} : { keptBytes: flags.kept }),
        ...(flags.memory === undefined ? {} : { memory: flags.memory }),
      },
      ...(flags['token-store'] === undefined ? {} : { store: flags['token-store'] }),
    });
    const { renderTokenLimits } = await import('../../render/token.js');
    await this.show(flags, result, (style) => renderTokenLimits(result, style));
  }
}
