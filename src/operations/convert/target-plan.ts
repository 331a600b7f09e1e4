/**
 * Everything about the image that a conversion is going to make: sectors, options, and what the platform
 * that it is for has to say.
 *
 * The one place where a profile meets a source, for files, devices and streams alike.
 */
import type { Chain } from '../../formats/chain.js';
import type { CreateImageOptions, FormatId } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import type { Host } from '../host.js';
import { judgePlan, sizeFor } from '../profiles/apply.js';
import { contentsOf } from '../profiles/contents.js';
import { imageOptions } from './plan.js';
import { planSectors, type SectorPlan } from './sectors.js';
import type { ConvertOptions } from './types.js';

export interface TargetPlan {
  sectors: SectorPlan;
  made: CreateImageOptions;
  /** Of sectors and profile. */
  warnings: Finding[];
}

/**
 * @throws what planSectors and imageOptions throw; UNSUPPORTED, TARGET_TOO_SMALL when the platform would
 *   reject the image
 */
export async function planTarget(
  host: Host,
  source: Chain,
  to: FormatId,
  options: ConvertOptions,
): Promise<TargetPlan> {
  const { profile } = options;
  const sectors = await planSectors(source, to, options, (size) => sizeFor(profile, size));
  const made = imageOptions(host, sectors.chain.top, to, options, sectors);
  const warnings = [...sectors.warnings];
  if (profile !== undefined) {
    const contents = await contentsOf(sectors.chain, made.logicalSectorSize ?? 512);
    warnings.push(...judgePlan(profile, to, made, source.virtualSize, contents));
  }
  return { sectors, made, warnings };
}
