/**
 * `info`: what an image is, without reading its payload.
 *
 * Invariant: a missing or wrong parent is an answer here, not an error.
 */
import type { VhdkitError } from '../base/errors.js';
import { MAX_CHAIN_DEPTH, type ParentResolution, resolveParent } from '../formats/chain.js';
import type { DiskImage, FormatId, ImageLayout, ImageType } from '../formats/disk-image.js';
import type { Finding } from '../formats/finding.js';
import { openImage } from '../formats/registry.js';
import type { Host } from './host.js';

export type { LinkStatus } from '../formats/chain.js';

export interface InfoOptions {
  path: string;
  format?: FormatId;
  /** Describe all parents too. */
  chain?: boolean;
}

export interface ParentInfo {
  /** Where it was found, or what the child calls it. */
  path: string;
  /** The id the child expects. */
  id: string;
  status: ParentResolution['status'];
  /** Why it does not fit or can't be read. */
  reason?: string;
}

export interface ImageInfo {
  path: string;
  format: FormatId;
  type: ImageType;
  virtualSize: number;
  fileSize: number;
  allocatedBytes: number;
  blockSize: number | null;
  logicalSectorSize: number;
  physicalSectorSize: number;
  id: string | null;
  creator: string | null;
  payloadAlignment: number | null;
  /** Share of allocated blocks that do not follow their predecessor in the file, and the runs they form. */
  fragmentation: { percent: number; extents: number };
  log: 'none' | 'clean' | 'dirty';
  warnings: readonly Finding[];
  parent?: ParentInfo;
}

export interface InfoResult extends ImageInfo {
  /** Top first, the image itself included. */
  chain?: ImageInfo[];
}

function fragmentation(layout: ImageLayout): { percent: number; extents: number } {
  const joints = layout.allocatedBlocks - 1;
  const percent = joints > 0 ? Math.round(((layout.extents - 1) / joints) * 1000) / 10 : 0;
  return { percent, extents: layout.extents };
}

async function describe(image: DiskImage): Promise<ImageInfo> {
  const layout = await image.layout();
  return {
    path: image.file.path,
    format: image.format,
    type: image.type,
    virtualSize: image.virtualSize,
    fileSize: image.file.size(),
    allocatedBytes: await image.file.allocatedBytes(),
    blockSize: image.blockSize ?? null,
    logicalSectorSize: image.logicalSectorSize,
    physicalSectorSize: image.physicalSectorSize,
    id: image.id ?? null,
    creator: image.creator ?? null,
    payloadAlignment: layout.payloadAlignment ?? null,
    fragmentation: fragmentation(layout),
    log: image.log,
    warnings: image.warnings,
  };
}

function parentInfo(image: DiskImage, resolution: ParentResolution): ParentInfo {
  const info: ParentInfo = {
    path: resolution.path,
    id: image.parentLink?.acceptedIds[0] ?? '',
    status: resolution.status,
  };
  if (resolution.status === 'mismatch') info.reason = resolution.reason;
  if (resolution.status === 'unreadable') info.reason = (resolution.cause as VhdkitError).message;
  return info;
}

/**
 * Describes an image, and with `chain` its parents as far as they are found.
 * @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED for the image itself
 */
export async function info(host: Host, options: InfoOptions): Promise<InfoResult> {
  const open: DiskImage[] = [];
  const infos: ImageInfo[] = [];
  try {
    let image: DiskImage | undefined = await openImage(
      await host.fileSystem.open(options.path),
      options.format ? { format: options.format } : {},
    );
    while (image && infos.length < MAX_CHAIN_DEPTH) {
      open.push(image);
      const described = await describe(image);
      infos.push(described);
      if (!image.parentLink) break;
      const resolution: ParentResolution = await resolveParent(host.fileSystem, image);
      described.parent = parentInfo(image, resolution);
      image = resolution.status === 'matches' ? resolution.image : undefined;
      if (image && !options.chain) {
        open.push(image);
        break;
      }
    }
  } finally {
    for (const image of open) await image.close();
  }
  const top = infos[0] as ImageInfo;
  return options.chain ? { ...top, chain: infos } : top;
}
