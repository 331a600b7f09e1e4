/**
 * What a profile is: what a platform wants of an image, as data, and its rules, as pure functions.
 *
 * Invariant: a rule looks at facts that were gathered before and at nothing else, so the same rules judge
 * an image that exists (`check --profile`) and one that is about to be made (`convert --for`). A rule whose
 * fact is unknown says nothing. Rule ids are stable; scripts compare them.
 */
import type { ErrorCode } from '../../base/errors.js';
import type { FormatId, ImageType, SectorSize } from '../../formats/disk-image.js';
import type { Finding, Severity } from '../../formats/finding.js';

export type ProfileName = 'azure' | 'hyperv' | 'virtualbox' | 'wsl' | 'xenserver';

/** What the first and last sectors of the disk say. */
export interface DiskContents {
  partitionTable: 'gpt' | 'mbr' | 'damaged' | 'none';
  /** Where the partition table says its backup is; a byte offset on the disk. GPT only. */
  gptBackupOffset?: number;
  /** A file system without a partition table around it. */
  wholeDisk?: 'ext4' | 'other';
}

/** Everything that rules look at. Sizes in bytes; what is not known (yet) is left out. */
export interface ImageFacts {
  format: FormatId;
  type: ImageType;
  virtualSize: number;
  fileSize?: number;
  blockSize?: number;
  logicalSectorSize: SectorSize;
  log: 'none' | 'clean' | 'dirty';
  /** Codes of what the image's own check found. */
  defects: readonly string[];
  contents?: DiskContents;
  /** What vhd-lib objects to; only asked for where a profile says so. */
  vhdLibComplaint?: string;
}

export interface Rule {
  id: string;
  severity: Severity;
  /** Why the platform wants it. */
  reason: string;
  /** Public document or program, and the place in it. */
  source: string;
  /** What to do about it. */
  hint: string;
  /** How `convert` fails when its result would break the rule; UNSUPPORTED by default. */
  refusal?: ErrorCode;
  /** What is wrong, or undefined when the rule holds or does not apply. */
  judge(facts: ImageFacts): string | undefined;
}

/** What `convert --for` chooses. The first of each list is the choice, the others may be asked for. */
export interface Target {
  formats: readonly [FormatId, ...FormatId[]];
  types: readonly ['dynamic' | 'fixed', ...('dynamic' | 'fixed')[]];
  /** Bytes; without it the format's usual size. */
  blockSize?: number;
  /** True when no other block size will do. */
  blockSizeIsFixed?: boolean;
  /** The virtual size becomes a multiple of this many bytes. */
  sizeMultiple: number;
  /** Without it: as the source. */
  logicalSectorSize?: SectorSize;
}

export interface Profile {
  name: ProfileName;
  /** What people call the platform. */
  title: string;
  target: Target;
  rules: readonly Rule[];
  /** Ask vhd-lib as well. */
  asksVhdLib?: boolean;
}

/** A finding of a rule. */
export interface ProfileFinding extends Finding {
  reason: string;
  source: string;
  hint: string;
}

/** The rules that the facts break, in the profile's order. */
export function judge(profile: Profile, facts: ImageFacts): ProfileFinding[] {
  const findings: ProfileFinding[] = [];
  for (const { id, severity, reason, source, hint, judge: rule } of profile.rules) {
    const message = rule(facts);
    if (message !== undefined)
      findings.push({ code: id, severity, message, repairable: false, reason, source, hint });
  }
  return findings;
}
