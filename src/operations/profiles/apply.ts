/**
 * `convert --for`: what a profile chooses, and whether it can be had.
 *
 * Invariant: flags that were given are never overruled in silence: those that contradict the profile are
 * refused, and a disk that becomes larger is reported.
 */
import { formatSize, roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { CreateImageOptions, FormatId, SectorSize } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import { formatByExtension } from '../../formats/registry.js';
import { PROFILES } from './profiles.js';
import { type DiskContents, type ImageFacts, judge, type Profile, type ProfileName } from './rule.js';

/** What a conversion may have been told besides the profile. */
export interface Asked {
  target: string;
  profile?: ProfileName;
  to?: FormatId;
  type?: 'dynamic' | 'fixed';
  blockSize?: number;
  sectorSize?: SectorSize;
  /** The source is a stream. */
  input?: unknown;
}

function contradiction(profile: Profile, flag: string, wanted: string): VhdkitError {
  return new VhdkitError(
    'INVALID_ARGUMENT',
    `${flag} contradicts --for ${profile.name}: ${profile.title} needs ${wanted}`,
    { operation: 'choose format', hint: `Leave one of the two away.` },
  );
}

/** The format: as asked, else by the name, else the profile's first; always one that the profile has. */
function formatFor(profile: Profile, asked: Asked): FormatId {
  const { formats } = profile.target;
  const wanted = formats.map((format) => format.toUpperCase()).join(' or ');
  if (asked.to !== undefined && !formats.includes(asked.to))
    throw contradiction(profile, `-O ${asked.to}`, wanted);
  const named = asked.to ?? formatByExtension(asked.target);
  if (named === undefined) return formats[0];
  if (!formats.includes(named)) throw contradiction(profile, `The name '${asked.target}' (${named})`, wanted);
  return named;
}

/**
 * The options with what the profile chooses filled in; unchanged without a profile.
 * @throws INVALID_ARGUMENT when a flag contradicts the profile
 */
export function withProfile<T extends Asked>(asked: T): T {
  if (asked.profile === undefined) return asked;
  const profile = PROFILES[asked.profile];
  const { types, blockSize, blockSizeIsFixed, logicalSectorSize } = profile.target;
  const to = formatFor(profile, asked);
  if (asked.type !== undefined && !types.includes(asked.type))
    throw contradiction(profile, `--type ${asked.type}`, `a ${types.join(' or ')} image`);
  if (blockSizeIsFixed && blockSize !== undefined && (asked.blockSize ?? blockSize) !== blockSize)
    throw contradiction(profile, `--block-size ${asked.blockSize}`, `blocks of ${formatSize(blockSize)}`);
  if (logicalSectorSize !== undefined && (asked.sectorSize ?? logicalSectorSize) !== logicalSectorSize)
    throw contradiction(
      profile,
      `--sector-size ${asked.sectorSize}`,
      `sectors of ${logicalSectorSize} bytes`,
    );
  const type = asked.type ?? types[0];
  const chosen = { ...asked, to, type };
  if (type === 'dynamic' && asked.blockSize === undefined && blockSize !== undefined)
    chosen.blockSize = blockSize;
  // Of a stream the sectors show only at its end; it would have to be spooled to be asked.
  if (logicalSectorSize !== undefined && asked.input === undefined) chosen.sectorSize = logicalSectorSize;
  return chosen;
}

/** The virtual size that the profile gives a disk of `size` bytes. */
export function sizeFor(name: ProfileName | undefined, size: number): number {
  return name === undefined ? size : roundUp(size, PROFILES[name].target.sizeMultiple);
}

/** What an image that is going to be made would look like to the rules. */
function factsOf(format: FormatId, made: CreateImageOptions, contents: DiskContents): ImageFacts {
  const { type, virtualSize, blockSize, logicalSectorSize = 512 } = made;
  const facts: ImageFacts = {
    format,
    type,
    virtualSize,
    logicalSectorSize,
    log: 'none',
    defects: [],
    contents,
  };
  if (blockSize !== undefined) facts.blockSize = blockSize;
  return facts;
}

/**
 * Whether the planned image is one for the platform, and what is remarkable about it.
 * @param sourceSize bytes of the disk before it was rounded up
 * @throws UNSUPPORTED, TARGET_TOO_SMALL with the rule as `defect` when the platform would reject it
 */
export function judgePlan(
  name: ProfileName,
  format: FormatId,
  made: CreateImageOptions,
  sourceSize: number,
  contents: DiskContents,
): Finding[] {
  const profile = PROFILES[name];
  const findings = judge(profile, factsOf(format, made, contents));
  const fatal = findings.find(({ severity }) => severity === 'error');
  if (fatal) {
    const rule = profile.rules.find(({ id }) => id === fatal.code);
    throw new VhdkitError(
      rule?.refusal ?? 'UNSUPPORTED',
      `${profile.title} would reject the image: ${fatal.message}. ${fatal.reason}`,
      {
        operation: 'plan conversion',
        context: { defect: fatal.code, profile: name, source: fatal.source },
        hint: fatal.hint,
      },
    );
  }
  const added = made.virtualSize - sourceSize;
  if (added === 0) return findings;
  const unit = formatSize(profile.target.sizeMultiple);
  const message = `the disk of ${sourceSize} bytes gets ${added} zeros at its end: for ${profile.title} sizes are multiples of ${unit}`;
  return [{ code: 'PROFILE_SIZE_ROUNDED', severity: 'note', message, repairable: false }, ...findings];
}
