/**
 * `convert`: one disk, chain included, into a new image of any format.
 *
 * Invariant: the source is only read; the target appears under its name complete or not at all (a block
 * device, which can't be replaced, is written in place). The structures of every source image are checked
 * before the first byte moves: a table that contradicts itself is refused, not copied.
 *
 * Moving the bytes is the offload session's business, where they go is the target format's.
 */

import { roundUp } from '../base/bytes.js';
import { VhdkitError } from '../base/errors.js';
import { walkExtents } from '../block/extent.js';
import { type Chain, openChain } from '../formats/chain.js';
import type { DiskImage, FormatId, ImageType, SectorSize } from '../formats/disk-image.js';
import type { Finding } from '../formats/finding.js';
import { createImage } from '../formats/registry.js';
import { TokenManager } from '../offload/token-manager.js';
import { forecast, transfer } from '../offload/transfer-session.js';
import type { BytesMoved, ProviderChoice, TransferOptions, ZeroPolicy } from '../offload/transfer-types.js';
import type { Host, ProgressSink } from './host.js';
import { type OpenTarget, openTarget, targetFormat } from './target.js';

/** Longest range handed to a provider at once: bounds the wait for progress and cancellation. */
const MAX_REQUEST = 1024 * 1024 * 1024;

export interface ConvertOptions {
  source: string;
  target: string;
  from?: FormatId;
  to?: FormatId;
  type?: 'dynamic' | 'fixed';
  blockSize?: number;
  provider?: ProviderChoice;
  zeros?: ZeroPolicy;
  /** Replace an existing file, or write to a device. */
  force?: boolean;
  /** Change nothing; the result's `bytes` is a forecast. */
  dryRun?: boolean;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

export interface ConvertResult {
  source: string;
  target: string;
  from: FormatId;
  to: FormatId;
  type: ImageType;
  virtualSize: number;
  fileSize: number;
  bytes: BytesMoved;
  elapsedMs: number;
  dryRun: boolean;
  warnings: readonly Finding[];
}

/**
 * @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, PARENT_MISSING, PARENT_MISMATCH, ALREADY_EXISTS,
 *   INVALID_ARGUMENT, TARGET_TOO_SMALL, OFFLOAD_UNSUPPORTED, SOURCE_CHANGED, NO_SPACE, CANCELLED, IO_FAILED
 */
export async function convert(host: Host, options: ConvertOptions): Promise<ConvertResult> {
  const started = host.clock.now();
  const chain = await openChain(
    host.fileSystem,
    options.source,
    options.from ? { format: options.from } : {},
  );
  try {
    const to = await targetFormat(host, options.target, options.to);
    await assertNotSource(host, chain, options.target);
    const warnings = await examine(chain);
    const target = await openTarget(host, options.target, options.force ?? false);
    try {
      const image = await createImage(target.file, to, imageOptions(host, chain.top, to, options));
      const bytes = await move(host, chain, image, options);
      const result: ConvertResult = {
        source: options.source,
        target: options.target,
        from: chain.top.format,
        to,
        type: image.type,
        virtualSize: image.virtualSize,
        fileSize: await finish(target, image, options.dryRun ?? false),
        bytes,
        elapsedMs: host.clock.now() - started,
        dryRun: options.dryRun ?? false,
        warnings,
      };
      return result;
    } catch (error) {
      await target.discard();
      throw error;
    }
  } finally {
    await chain.close();
  }
}

async function move(
  host: Host,
  chain: Chain,
  image: DiskImage,
  options: ConvertOptions,
): Promise<BytesMoved> {
  const total = chain.virtualSize;
  const extents = walkExtents(chain, { offset: 0, length: total }, MAX_REQUEST);
  const settings: TransferOptions = { provider: options.provider ?? 'auto', zeros: options.zeros ?? 'auto' };
  if (options.signal) settings.signal = options.signal;
  const { progress } = options;
  if (progress) settings.onProgress = (done) => progress.update(done, total);
  const manager = new TokenManager({ clock: host.clock, random: host.random });
  const run = options.dryRun ? forecast : transfer;
  return run(extents, image, { ...settings, manager });
}

/** Completes the target and gives it its name; in a dry run it vanishes. Returns its length in bytes. */
async function finish(target: OpenTarget, image: DiskImage, dryRun: boolean): Promise<number> {
  if (dryRun) {
    const size = image.file.size();
    await target.discard();
    return size;
  }
  await image.flush();
  const size = image.file.size();
  await target.publish();
  return size;
}

/** Refuses sources whose tables are wrong; returns what is odd but harmless. */
async function examine(chain: Chain): Promise<Finding[]> {
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

async function assertNotSource(host: Host, chain: Chain, target: string): Promise<void> {
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

interface NewImage {
  type: 'fixed' | 'dynamic';
  virtualSize: number;
  blockSize?: number;
  logicalSectorSize?: SectorSize;
  physicalSectorSize?: SectorSize;
  clock: Host['clock'];
  random: Host['random'];
}

/** What the new image is to be: as asked, and otherwise like the source. */
function imageOptions(host: Host, source: DiskImage, to: FormatId, options: ConvertOptions): NewImage {
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
  const made: NewImage = {
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
