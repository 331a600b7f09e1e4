/** `vhdkit compare`: whether two disks hold the same. */
import { BaseCommand } from '../base-command.js';
import { EXIT_DIFFERENT } from '../exit-codes.js';
import { Flags, fromFlag, pathArg, secondFromFlag } from '../flags.js';

export default class Compare extends BaseCommand {
  static override summary = 'Compare the contents of two disks, whatever their formats.';
  static override description =
    'Where one disk is longer, the rest must be zeros. With --strict the sizes and the allocated parts must be ' +
    'the same too.\n\nExit codes: 0 same, 1 different, 2 an image cannot be opened, 3 its allocation cannot be ' +
    'determined, 4 it cannot be read.';
  static override examples = [
    { description: 'After a conversion', command: '<%= config.bin %> compare disk.vhdx disk.raw' },
    { description: 'In a script', command: '<%= config.bin %> compare -q a.vhd b.vhd && echo same' },
  ];
  static override args = {
    a: pathArg('One image or block device.'),
    b: pathArg('The other.'),
  };
  static override flags = {
    from: fromFlag('Format of the first image; without it the content is probed.'),
    'second-from': secondFromFlag,
    strict: Flags.boolean({ char: 's', summary: 'Compare size and allocation as well.' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Compare);
    const { compare } = await import('../../operations/compare.js');
    const host = await this.host();
    const second = flags['second-from'];
    const result = await this.withProgress(flags, 'Comparing', (progress) =>
      compare(host, {
        a: args.a,
        b: args.b,
        strict: flags.strict,
        signal: this.signal,
        progress,
        ...(flags.from ? { formatA: flags.from } : {}),
        ...(second ? { formatB: second } : {}),
      }),
    );
    if (!result.same) process.exitCode = EXIT_DIFFERENT;
    const { renderCompare } = await import('../render/compare.js');
    await this.show(flags, result, (style) => (flags.quiet ? [] : renderCompare(result, style)));
  }
}
