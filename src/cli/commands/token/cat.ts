/** `vhdkit token cat`: the bytes that tokens stand for, to stdout. */
import { BaseCommand } from '../../base-command.js';
import { pathArg, size } from '../../flags.js';
import { writeOut } from '../../output.js';
import { tokenStoreFlag } from '../../token-flags.js';
import { UsageError } from '../../usage-error.js';

export default class TokenCat extends BaseCommand {
  static override summary = 'Write the bytes that tokens stand for to stdout.';
  static override description =
    'For when the data must go where nothing can be offloaded. Ends with an error when the data changed while it ' +
    'was read. Refuses to write to a terminal.';
  static override examples = [
    { description: 'Into a file', command: '<%= config.bin %> token cat t.tok > part.img' },
    {
      description: 'The first sector, as a dump',
      command: '<%= config.bin %> token cat t.tok --length 512 | hexdump -C',
    },
  ];
  static override args = { tokens: pathArg('Token file.') };
  static override flags = {
    'token-offset': size({ summary: 'Where to begin in what the tokens stand for; 0 if not given.' }),
    length: size({ summary: 'How much to read; all that the tokens stand for if not given.' }),
    'token-store': tokenStoreFlag,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(TokenCat);
    if (flags.json) throw new UsageError('token cat writes bytes, not JSON', 'Leave out --json.');
    if (process.stdout.isTTY)
      throw new UsageError(
        'token cat does not write bytes to a terminal',
        'Send them somewhere: `> FILE`, or `| hexdump -C`.',
      );
    const { openTokenBytes } = await import('../../../operations/token/cat.js');
    const bytes = await openTokenBytes(await this.host(), {
      tokens: args.tokens,
      signal: this.signal,
      ...(flags['token-offset'] === undefined ? {} : { tokenOffset: flags['token-offset'] }),
      ...(flags.length === undefined ? {} : { length: flags.length }),
      ...(flags['token-store'] === undefined ? {} : { store: flags['token-store'] }),
    });
    try {
      for await (const chunk of bytes.chunks()) await writeOut(chunk);
    } finally {
      await bytes.close();
    }
  }
}
