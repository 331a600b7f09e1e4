/**
 * What a conversion is going to make, and whether the source is fit for it. Nothing is written here.
 */
import { roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { Chain } from '../../formats/chain.js';
import type { CreateImageOptions, DiskImage, FormatId } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import { sameFile } from '../../io/file-system.js';
import type { Host } from '../host.js';
import { assertSound } from '../sound.js';
import type { SectorPlan } from './sectors.js';
import type { ConvertOptions } from './types.js';

const DAMAGED = 'The image is damaged; a copy would be too. Restore it from a backup.';

/** Refuses sources whose tables are wrong; returns what is odd but harmless. */
export async function examine(chain: Chain): Promise<Finding[]> {
  const warnings: Finding[] = [];
  for (const image of chain.images) {
    const findings = await assertSound(image, DAMAGED);
    const seen = new Set(warnings.map((finding) => `${finding.code} ${finding.offset}`));
    warnings.push(...findings.filter((f) => f.severity === 'warning' && !seen.has(`${f.code} ${f.offset}`)));
  }
  return warnings;
}

export async function assertNotSource(host: Host, chain: Chain, target: string): Promise<void> {
  const identity = await host.fileSystem.identity(target);
  if (!identity) return;
  for (const image of chain.images) {
    const other = await host.fileSystem.identity(image.file.path);
    if (!other || !sameFile(other, identity)) continue;
    throw new VhdkitError('INVALID_ARGUMENT', `${target} is the source, or one of its parents`, {
      operation: 'open target',
      context: { path: target },
      hint: 'Choose another target.',
    });
  }
}

/** The source's sectors. Disks consist of whole ones; a raw file may not, and gets zeros up to the next. */
function sameSectors(
  { logicalSectorSize, virtualSize }: DiskImage,
  to: FormatId,
): Pick<SectorPlan, 'sectorSize' | 'virtualSize'> {
  if (to === 'raw') return { sectorSize: undefined, virtualSize };
  return { sectorSize: logicalSectorSize, virtualSize: roundUp(virtualSize, logicalSectorSize) };
}

/** What the new image is to be: as asked, and otherwise like the source. */
export function imageOptions(
  host: Host,
  source: DiskImage,
  to: FormatId,
  options: ConvertOptions,
  sectors: Pick<SectorPlan, 'sectorSize' | 'virtualSize'> = sameSectors(source, to),
): CreateImageOptions {
  const type = options.type ?? (to === 'raw' ? 'fixed' : 'dynamic');
  if (to === 'raw' && (type === 'dynamic' || options.blockSize !== undefined)) {
    throw new VhdkitError('INVALID_ARGUMENT', 'A raw image has neither a dynamic type nor a block size', {
      operation: 'create image',
      hint: 'Leave --type and --block-size away; raw images are sparse by themselves.',
    });
  }
  const made: CreateImageOptions = {
    type,
    virtualSize: sectors.virtualSize,
    clock: host.clock,
    random: host.random,
  };
  if (to === 'vhdx') made.logicalSectorSize = sectors.sectorSize ?? source.logicalSectorSize;
  if (to === 'vhdx' && source.format === 'vhdx') {
    // A physical sector is never smaller than a logical one.
    const larger = made.logicalSectorSize === 4096 || source.physicalSectorSize === 4096;
    made.physicalSectorSize = larger ? 4096 : 512;
  }
  if (options.blockSize !== undefined) made.blockSize = options.blockSize;
  return made;
}
