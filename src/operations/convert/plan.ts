/**
 * What a conversion is going to make, and whether the source is fit for it. Nothing is written here.
 */
import { roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { Chain } from '../../formats/chain.js';
import type { CreateImageOptions, DiskImage, FormatId } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import type { Host } from '../host.js';
import type { ConvertOptions } from './types.js';

/** Refuses sources whose tables are wrong; returns what is odd but harmless. */
export async function examine(chain: Chain): Promise<Finding[]> {
  const warnings: Finding[] = [];
  for (const image of chain.images) {
    const findings = [...image.warnings, ...(await image.check())];
    const fatal = findings.find(({ severity }) => severity === 'error');
    if (fatal) {
      const { path } = image.file;
      throw new VhdkitError('IMAGE_CORRUPT', `${path}: ${fatal.message}`, {
        operation: 'check source',
        context: {
          path,
          defect: fatal.code,
          ...(fatal.offset === undefined ? {} : { offset: fatal.offset }),
        },
        hint: 'The image is damaged; a copy would be too. Restore it from a backup.',
      });
    }
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
    if (other?.inode !== identity.inode || other.device !== identity.device) continue;
    throw new VhdkitError('INVALID_ARGUMENT', `${target} is the source, or one of its parents`, {
      operation: 'open target',
      context: { path: target },
      hint: 'Choose another target.',
    });
  }
}

/** What the new image is to be: as asked, and otherwise like the source. */
export function imageOptions(
  host: Host,
  source: DiskImage,
  to: FormatId,
  options: ConvertOptions,
): CreateImageOptions {
  const type = options.type ?? (to === 'raw' ? 'fixed' : 'dynamic');
  const sector = source.logicalSectorSize;
  if (to === 'raw' && (type === 'dynamic' || options.blockSize !== undefined)) {
    throw new VhdkitError('INVALID_ARGUMENT', 'A raw image has neither a dynamic type nor a block size', {
      operation: 'create image',
      hint: 'Leave --type and --block-size away; raw images are sparse by themselves.',
    });
  }
  if (to === 'vhd' && sector !== 512) {
    throw new VhdkitError(
      'UNSUPPORTED',
      `${source.file.path} has ${sector}-byte sectors, VHD knows only 512`,
      {
        operation: 'create image',
        context: { path: source.file.path, sectorSize: sector },
        hint: 'Its partition table counts in large sectors and would be misread. Choose -O vhdx or -O raw.',
      },
    );
  }
  const made: CreateImageOptions = {
    type,
    // Disks consist of whole sectors; a raw file may not, and gets zeros up to the next one.
    virtualSize: to === 'raw' ? source.virtualSize : roundUp(source.virtualSize, sector),
    clock: host.clock,
    random: host.random,
  };
  if (to === 'vhdx') made.logicalSectorSize = sector;
  if (to === 'vhdx' && source.format === 'vhdx') made.physicalSectorSize = source.physicalSectorSize;
  if (options.blockSize !== undefined) made.blockSize = options.blockSize;
  return made;
}
