/** `vhdkit check`: whether an image is sound, and fit for a platform. */
import { BaseCommand } from '../base-command.js';
import { EXIT_CORRUPT, EXIT_LEAKS } from '../exit-codes.js';
import { fromFlag, pathArg, profileFlag } from '../flags.js';

const EXIT_CODES = { clean: 0, leaks: EXIT_LEAKS, corrupt: EXIT_CORRUPT } as const;

export default class Check extends BaseCommand {
  static override summary = 'Check an image and its parents, and whether a platform takes it.';
  static override description =
    'Examines headers, tables and links, never the contents of files in the guest; nothing is changed. With ' +
    '--profile the image is also held against the rules of a platform, each of which comes with its reason and ' +
    'its source. Rules that the platform enforces count as errors.\n\nExit codes: 0 no errors (there may be ' +
    'warnings and notes), 1 could not be checked, 2 errors, 3 no errors but leaked space, 63 nothing to check ' +
    '(a raw image without --profile, or a variant that is not supported).';
  static override examples = [
    { description: 'An image and its parents', command: '<%= config.bin %> check child.avhdx' },
    {
      description: 'Before an upload to Azure',
      command: '<%= config.bin %> check disk.vhd --profile azure',
    },
    {
      description: 'The codes of all errors, for a script',
      command:
        '<%= config.bin %> check disk.vhdx --json | jq -r \'.findings[] | select(.severity == "error") | .code\'',
    },
  ];
  static override args = { image: pathArg('Image file or block device.') };
  static override flags = {
    from: fromFlag(),
    profile: profileFlag('Check the rules of this platform as well.'),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Check);
    const { check } = await import('../../operations/check.js');
    const { renderCheck } = await import('../render/check.js');
    const result = await check(await this.host(), {
      path: args.image,
      ...(flags.from ? { format: flags.from } : {}),
      ...(flags.profile ? { profile: flags.profile } : {}),
    });
    process.exitCode = EXIT_CODES[result.verdict];
    await this.show(flags, result, (style) => (flags.quiet ? [] : renderCheck(result, style)));
  }
}
