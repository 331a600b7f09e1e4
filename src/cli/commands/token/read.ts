/** `vhdkit token read`: tokens for a range of a disk. */
import type { TokenReadResult } from '../../../operations/token/read.js';
import { BaseCommand, type GlobalFlags } from '../../base-command.js';
import { Flags, forceFlag, fromFlag, pathArg, size } from '../../flags.js';
import type { Progress } from '../../progress/progress.js';
import { duration, tokenStoreFlag } from '../../token-flags.js';

export default class TokenRead extends BaseCommand {
  static override summary = 'Make tokens that stand for a range of a disk.';
  static override description =
    'A token is 512 bytes that nobody can guess. `token write` turns it into the data elsewhere, in another ' +
    'process or session, without the data having been copied. Where the range lies in several pieces, or has ' +
    'zeros, the file holds several tokens and FILE.json says which range each stands for; the two belong together. ' +
    'Both are readable by their owner only and name no file.\n\n' +
    'A change-vulnerable token is refused once the file it stands for changes. A persistent one keeps the data as ' +
    'it is now, in shared extents (XFS, Btrfs) in the hidden folder .vhdkit-kept beside the data, until it is revoked ' +
    'or expires. Whoever uses a token must be allowed to read the data, and must use the same token store.\n\n' +
    '--checksum and --hash read the data once and send tokens along that say more of it: checksums let `token write` ' +
    'and `token verify` find damage without the source; hashes let `token write --have` take blocks from images ' +
    'that hold them already, even when the other tokens are void. What they have no room for is in FILE.sums.';
  static override examples = [
    {
      description: 'Two GiB of a disk, to be written elsewhere soon',
      command: '<%= config.bin %> token read disk.vhdx --offset 1G --length 2G -o t.tok',
    },
    {
      description: 'A whole disk as it is now, for a day',
      command: '<%= config.bin %> token read lun.img -o t.tok --mode persistent --expires 24h',
    },
    {
      description: 'Only as long as this command runs',
      command: '<%= config.bin %> token read lun.img -o t.tok --hold',
    },
    {
      description: 'With checksums, so that damage is found where the data arrives',
      command: '<%= config.bin %> token read disk.vhdx -o t.tok --checksum',
    },
    {
      description: 'With hashes, for a place that has an older copy of the disk',
      command: '<%= config.bin %> token read disk.vhdx -o t.tok --hash --hash-block 1M',
    },
  ];
  static override args = { image: pathArg('Image file; its chain is followed.') };
  static override flags = {
    from: fromFlag(),
    output: Flags.string({
      char: 'o',
      required: true,
      helpValue: '<file>',
      summary: 'File for the tokens.',
    }),
    offset: size({ summary: 'Where on the disk to begin; the beginning if not given.' }),
    length: size({ summary: 'How much the tokens stand for; up to the end if not given.' }),
    mode: Flags.option({
      options: ['change-vulnerable', 'persistent'] as const,
      default: 'change-vulnerable' as const,
      summary: 'Void once the data changes, or keep the data as it is now.',
    })(),
    ttl: duration({ summary: 'Void when not used for so long; 1h if not given, at most 30d.' }),
    expires: duration({ summary: 'Void after so long, used or not; never if not given.' }),
    priority: Flags.integer({
      min: -100,
      max: 100,
      summary:
        "When the store's limits are reached, tokens of lower priority make room first; 0 if not given.",
    }),
    hold: Flags.boolean({
      summary: 'Hold the image open and go on running; the tokens are good until this ends (Ctrl-C).',
    }),
    checksum: Flags.boolean({
      summary: 'Send checksums along: CRC-32C of each 64 KiB. Reads the data once.',
    }),
    hash: Flags.boolean({ summary: 'Send hashes along: SHA-256 of each block. Reads the data once.' }),
    'hash-block': size({
      summary: 'Bytes under one hash, 4K to 4M; 64K if not given, more for much data. Implies --hash.',
    }),
    'token-store': tokenStoreFlag,
    force: forceFlag('Replace the token file if it is there.'),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(TokenRead);
    const { readToken } = await import('../../../operations/token/read.js');
    const host = await this.host();
    const reads = flags.checksum || flags.hash || flags['hash-block'] !== undefined;
    const read = (progress?: Progress) =>
      readToken(host, {
        ...(progress ? { progress } : {}),
        checksum: flags.checksum,
        hash: flags.hash,
        ...(flags['hash-block'] === undefined ? {} : { hashBlock: flags['hash-block'] }),
        path: args.image,
        output: flags.output,
        mode: flags.mode,
        force: flags.force,
        signal: this.signal,
        ...(flags.from ? { format: flags.from } : {}),
        ...(flags.offset === undefined ? {} : { offset: flags.offset }),
        ...(flags.length === undefined ? {} : { length: flags.length }),
        ...(flags.priority === undefined ? {} : { priority: flags.priority }),
        ...(flags.hold ? { hold: (result: TokenReadResult) => this.#hold(flags, result, progress) } : {}),
        ...(flags.ttl === undefined ? {} : { ttl: flags.ttl }),
        ...(flags.expires === undefined ? {} : { expires: flags.expires }),
        ...(flags['token-store'] === undefined ? {} : { store: flags['token-store'] }),
      });
    const result = reads ? await this.withProgress(flags, 'Reading', read) : await read();
    if (!flags.hold) await this.#showResult(flags, result);
  }

  /** Shows the tokens, which can be used from now on, and waits for the signal that is the regular end. */
  async #hold(flags: GlobalFlags, result: TokenReadResult, progress?: Progress): Promise<void> {
    progress?.stop();
    await this.#showResult(flags, result);
    this.tell(flags, 'Holding the image open; Ctrl-C ends the tokens.');
    // Something has to keep the process alive: waiting for a signal does not.
    const { systemTimer } = await import('../../../base/timer.js');
    while (!this.signal.aborted) await systemTimer.sleep(60_000, this.signal);
  }

  async #showResult(flags: GlobalFlags, result: TokenReadResult): Promise<void> {
    const { renderTokenRead } = await import('../../render/token.js');
    await this.show(flags, result, (style) => (flags.quiet ? [] : renderTokenRead(result, style)));
  }
}
