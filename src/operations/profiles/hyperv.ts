/**
 * Hyper-V on Windows and Windows Server.
 */
import { vhdSizeRule } from './common-rules.js';
import type { Profile, Rule } from './rule.js';

const FORMAT: Rule = {
  id: 'HYPERV_FORMAT',
  severity: 'error',
  reason: 'Hyper-V attaches VHD and VHDX, not raw images.',
  source: 'Microsoft Learn, Hyper-V module, Convert-VHD',
  hint: 'Convert it: vhdkit convert IMAGE disk.vhdx --for hyperv',
  judge: ({ format }) => (format === 'raw' ? 'the image is raw' : undefined),
};

const GENERATION_1: Rule = {
  id: 'HYPERV_GENERATION_1_ONLY',
  severity: 'warning',
  reason: 'Generation 2 machines take VHDX only.',
  source: 'Microsoft Learn, "Should I create a generation 1 or 2 virtual machine in Hyper-V?"',
  hint: 'Convert it to VHDX unless it is for a generation 1 machine.',
  judge: ({ format }) =>
    format === 'vhd' ? 'a VHD can only be attached to a generation 1 machine' : undefined,
};

const LARGE_SECTORS: Rule = {
  id: 'HYPERV_LARGE_SECTORS',
  severity: 'warning',
  reason: 'A BIOS, and so a generation 1 machine, boots from disks with 512-byte sectors only.',
  source: 'Microsoft Learn, "Hyper-V support for large sector disks"',
  hint: 'Fine for data and for generation 2 machines whose system can do it.',
  judge: ({ logicalSectorSize }) =>
    logicalSectorSize === 4096 ? 'the disk has sectors of 4096 bytes' : undefined,
};

const LOG: Rule = {
  id: 'HYPERV_LOG_DIRTY',
  severity: 'note',
  reason: 'Hyper-V replays the log when it opens the image for writing, which changes the file.',
  source: 'MS-VHDX 2.3.3, Log Replay',
  hint: 'Nothing has to be done; convert the image to get one with an empty log.',
  judge: ({ log }) => (log === 'dirty' ? 'the log has entries that were not replayed' : undefined),
};

export const HYPERV: Profile = {
  name: 'hyperv',
  title: 'Hyper-V',
  target: { formats: ['vhdx', 'vhd'], types: ['dynamic', 'fixed'], sizeMultiple: 512 },
  rules: [
    FORMAT,
    GENERATION_1,
    vhdSizeRule('HYPERV', 'Windows', 'Microsoft Learn, Hyper-V module, New-VHD, -SizeBytes'),
    LARGE_SECTORS,
    LOG,
  ],
};
