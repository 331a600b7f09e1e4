/** `vhdkit check`: whether an image is sound, and fit for a platform; and putting right what is not. */
import type { FormatId } from '../../formats/disk-image.js';
import type { CheckResult } from '../../operations/check.js';
import { BaseCommand, type GlobalFlags } from '../base-command.js';
import { EXIT_CORRUPT, EXIT_LEAKS } from '../exit-codes.js';
import { Flags, forceFlag, fromFlag, pathArg, profileFlag } from '../flags.js';

/** What the ways of checking have in common. */
interface Wanted extends GlobalFlags {
  path: string;
  format?: FormatId;
}

const EXIT_CODES = { clean: 0, leaks: EXIT_LEAKS, corrupt: EXIT_CORRUPT } as const;

export default class Check extends BaseCommand {
  static override summary = 'Check an image and its parents, and whether a platform takes it.';
  static override description =
    'Examines headers, tables and links, never the contents of files in the guest; without --repair nothing is changed. With ' +
    '--profile the image is also held against the rules of a platform, each of which comes with its reason and ' +
    'its source. Rules that the platform enforces count as errors.\n\nWith --repair leaks, space that nothing uses ' +
    'is given back. With --repair all, damaged copies are restored from their twins, a dirty VHDX log is replayed, ' +
    'what follows from other values is computed again, and table entries that can not be true are taken out and ' +
    'listed. What is not understood is left alone. The old bytes of everything that is changed are saved beside ' +
    'the image before (IMAGE.vhdkit-repair-TIME.jsonl); --undo puts them back.\n\nExit codes: 0 no errors (there may be ' +
    'warnings and notes), 1 could not be checked, 2 errors, 3 no errors but leaked space, 63 nothing to check ' +
    '(a raw image without --profile, or a variant that is not supported).';
  static override examples = [
    { description: 'An image and its parents', command: '<%= config.bin %> check child.avhdx' },
    {
      description: 'Before an upload to Azure',
      command: '<%= config.bin %> check disk.vhd --profile azure',
    },
    {
      description: 'What would a repair do?',
      command: '<%= config.bin %> check disk.vhdx --repair all --dry-run',
    },
    { description: 'Put right what can be', command: '<%= config.bin %> check disk.vhdx --repair all' },
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
    repair: Flags.option({
      options: ['leaks', 'all'] as const,
      summary: 'Put right what can be: unused space only (leaks), or everything (all).',
      exclusive: ['profile'],
    })(),
    undo: Flags.string({
      helpValue: '<backup>',
      summary: 'Put back what a repair changed, from the backup that it wrote.',
      exclusive: ['repair', 'profile'],
    }),
    'dry-run': Flags.boolean({
      summary: 'Say what --repair would do; change nothing.',
      dependsOn: ['repair'],
    }),
    force: forceFlag('With --undo: even when the image was changed after the repair.'),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Check);
    const { from, repair, undo } = flags;
    const wanted: Wanted = { ...flags, path: args.image, ...(from ? { format: from } : {}) };
    if (undo !== undefined) await this.#undo(wanted, undo, flags.force);
    if (repair) await this.#repair(wanted, repair, flags['dry-run']);
    else await this.#check(wanted, flags.profile);
  }

  async #check(wanted: Wanted, profile: CheckResult['profile']): Promise<void> {
    const { check } = await import('../../operations/check.js');
    const { renderCheck } = await import('../render/check.js');
    const host = await this.host();
    const { path, format } = wanted;
    const result = await this.withProgress(wanted, 'Checking', (progress) =>
      check(host, {
        path,
        progress,
        signal: this.signal,
        ...(format ? { format } : {}),
        ...(profile ? { profile } : {}),
      }),
    );
    process.exitCode = EXIT_CODES[result.verdict];
    await this.show(wanted, result, (style) => (wanted.quiet ? [] : renderCheck(result, style)));
  }

  async #repair(wanted: Wanted, level: 'leaks' | 'all', dryRun: boolean): Promise<void> {
    const { repair } = await import('../../operations/repair.js');
    const { renderRepair } = await import('../render/check.js');
    const host = await this.host();
    const { path, format } = wanted;
    const result = await this.withProgress(wanted, 'Repairing', (_progress, next) =>
      repair(host, {
        path,
        level,
        dryRun,
        signal: this.signal,
        onMove: () => next('Moving blocks'),
        ...(format ? { format } : {}),
      }),
    );
    process.exitCode = EXIT_CODES[result.verdict];
    await this.show(wanted, result, (style) => (wanted.quiet ? [] : renderRepair(result, style)));
  }

  async #undo(wanted: Wanted, backup: string, force: boolean): Promise<void> {
    const { undoRepair } = await import('../../operations/repair/undo.js');
    const { restored } = await undoRepair(await this.host(), { path: wanted.path, backup, force });
    if (!wanted.json)
      this.tell(wanted, `${wanted.path}: ${restored} bytes put back; it is as before the repair.`);
  }
}
