/**
 * Rules that several platforms have in common.
 */
import { formatSize, GiB } from '../../base/bytes.js';
import type { ImageFacts, Rule } from './rule.js';

/** What Windows and XenServer take as a VHD, 2040 GiB. */
const MAX_VHD = 2040 * GiB;

/** The backup of a GPT belongs into the last sector of the disk. */
export function gptBackupRule(prefix: string): Rule {
  return {
    id: `${prefix}_GPT_BACKUP`,
    severity: 'warning',
    reason:
      'The backup of a GPT belongs into the last sector; firmware and partition tools complain about another place.',
    source: 'UEFI specification 2.10, section 5.3.2, GPT Header',
    hint: 'Run `sgdisk -e` on the disk in the guest, or `sfdisk --relocate gpt-bak-std` on a raw copy.',
    judge({ contents, virtualSize, logicalSectorSize }: ImageFacts) {
      const at = contents?.gptBackupOffset;
      const right = virtualSize - logicalSectorSize;
      if (at === undefined || at === right) return undefined;
      return `the backup of the partition table is at ${at}, not in the disk's last sector at ${right}`;
    },
  };
}

/** VHD ends at 2040 GiB, whatever its type. */
export function vhdSizeRule(prefix: string, platform: string, source: string): Rule {
  return {
    id: `${prefix}_TOO_LARGE`,
    severity: 'error',
    reason: `${platform} takes a VHD of 2040 GiB at most.`,
    source,
    hint: 'Use VHDX where the platform takes it, or spread the data over several disks.',
    refusal: 'TARGET_TOO_SMALL',
    judge: ({ format, virtualSize }) =>
      format === 'vhd' && virtualSize > MAX_VHD
        ? `the disk has ${formatSize(virtualSize)}, more than 2040 GiB`
        : undefined,
  };
}
