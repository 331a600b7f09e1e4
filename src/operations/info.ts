/**
 * `info`: what an image is, without reading its payload.
 *
 * Invariant: a missing or wrong parent is an answer here, not an error.
 */
import { closeImages, walkChain } from '../formats/chain.js';
import type { DiskImage, FormatId, ImageType } from '../formats/disk-image.js';
import type { Finding } from '../formats/finding.js';
import type { Host } from './host.js';
import { type Fragmentation, fragmentation } from './layout-facts.js';
import { linkInfo, type ParentInfo } from './link-info.js';
import { snapshotsBeside } from './snapshot/present.js';

export type { LinkStatus } from '../formats/chain.js';
export type { LinkVerdict, ParentInfo } from './link-info.js';

export interface InfoOptions {
  path: string;
  format?: FormatId;
  /** Describe all parents too. */
  chain?: boolean;
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
  /** The id by which children know the image: it changes with the content of a VHDX. */
  linkId: string | null;
  creator: string | null;
  payloadAlignment: number | null;
  /** Share of allocated blocks that do not follow their predecessor in the file, and the runs they form. */
  fragmentation: Fragmentation;
  log: 'none' | 'clean' | 'dirty';
  warnings: readonly Finding[];
  /** How many snapshots it has; absent without. */
  snapshots?: number;
  /** Of these, how many are of no use any more; absent without. */
  brokenSnapshots?: number;
  /** Name of the snapshot that it is half-way back to: what it holds is neither the one nor the other. */
  restoring?: string;
  parent?: ParentInfo;
}

export interface InfoResult extends ImageInfo {
  /** Top first, the image itself included. */
  chain?: ImageInfo[];
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
    linkId: image.linkId ?? null,
    creator: image.creator ?? null,
    payloadAlignment: layout.payloadAlignment ?? null,
    fragmentation: fragmentation(layout),
    log: image.log,
    warnings: image.warnings,
  };
}

/**
 * Describes an image, and with `chain` its parents as far as they are found. A chain that comes back to
 * itself, or is deeper than is followed, ends with a link that says so.
 * @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED for the image itself
 */
export async function info(host: Host, options: InfoOptions): Promise<InfoResult> {
  const { path, format, chain = false } = options;
  const walk = await walkChain(host.fileSystem, path, {
    ...(format ? { format } : {}),
    ...(chain ? {} : { links: 1 }),
  });
  try {
    const infos: ImageInfo[] = [];
    for (const [depth, image] of (chain ? walk.images : walk.images.slice(0, 1)).entries()) {
      const described = await describe(image);
      const link = walk.links[depth];
      if (link) described.parent = linkInfo(image, link);
      infos.push(described);
    }
    const top = infos[0] as ImageInfo;
    const [first] = walk.images;
    const found = first?.format === 'raw' ? await snapshotsBeside(host, first.file) : undefined;
    if (found) {
      const { snapshots, broken, restoring } = found;
      Object.assign(
        top,
        { snapshots },
        broken > 0 && { brokenSnapshots: broken },
        restoring && { restoring },
      );
    }
    return chain ? { ...top, chain: infos } : top;
  } finally {
    await closeImages(walk.images);
  }
}
