/**
 * `map`: where every byte of a disk is.
 */
import { throwIfAborted, type VhdkitError } from '../base/errors.js';
import { walkExtents } from '../block/extent.js';
import { Chain, type ChainWalk, closeImages, isSound, linkError, walkChain } from '../formats/chain.js';
import type { DiskImage, FormatId, ImageType } from '../formats/disk-image.js';
import type { Host } from './host.js';
import { linkInfo, type ParentInfo } from './link-info.js';

export interface MapOptions {
  path: string;
  format?: FormatId;
  /** Only this image's own data; what its parents hold stays `absent`. */
  withoutParent?: boolean;
  signal?: AbortSignal;
}

export interface MapEntry {
  offset: number;
  length: number;
  state: 'data' | 'zero' | 'absent';
  /** Data only: the file the bytes are in. */
  file?: string;
  fileOffset?: number;
  /** Position of the answering image in the chain; 0 is the image itself. */
  depth: number;
}

/** One image of the chain that was mapped. */
export interface MapImage {
  path: string;
  /** As in MapEntry. */
  depth: number;
  format: FormatId;
  type: ImageType;
  virtualSize: number;
  /** How it finds its parent; left out where it has none or was not asked. */
  parent?: ParentInfo;
}

export interface DiskMap {
  virtualSize: number;
  blockSize: number | null;
  /** The images that `depth` counts, top first. */
  images: readonly MapImage[];
  /** Why the parents are not part of the map although they should be. */
  parentProblem: VhdkitError | undefined;
  /** In order, covering the disk exactly. */
  entries(): AsyncGenerator<MapEntry>;
  close(): Promise<void>;
}

/** Verdicts without a map: where the chain never ends, nothing can be said of what lies beneath. */
const FATAL = new Set(['loop', 'too-deep']);

/** @throws PARENT_LOOP, CHAIN_TOO_DEEP */
async function problemOf({ images, links }: ChainWalk): Promise<VhdkitError | undefined> {
  const last = links.at(-1);
  if (!last || isSound(last)) return undefined;
  const problem = linkError(images.at(-1) as DiskImage, last, images.length);
  if (!FATAL.has(last.verdict)) return problem;
  await closeImages(images);
  throw problem;
}

function mapImage({ images, links }: ChainWalk, depth: number): MapImage {
  const image = images[depth] as DiskImage;
  const { format, type, virtualSize } = image;
  const link = links[depth];
  const described: MapImage = { path: image.file.path, depth, format, type, virtualSize };
  if (link) described.parent = linkInfo(image, link);
  return described;
}

/**
 * Opens the map of a chain. Where a parent is missing, wrong or can't be read, what only it knows is
 * `absent` and `parentProblem` says why.
 * @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT (the image itself), PARENT_LOOP, CHAIN_TOO_DEEP, IO_FAILED
 */
export async function openMap(host: Host, options: MapOptions): Promise<DiskMap> {
  const { path, format, withoutParent = false, signal } = options;
  const walk = await walkChain(host.fileSystem, path, { withoutParent, ...(format ? { format } : {}) });
  const parentProblem = await problemOf(walk);
  const chain = new Chain(walk.images);
  return {
    virtualSize: chain.virtualSize,
    blockSize: chain.top.blockSize ?? null,
    images: walk.images.map((_, depth) => mapImage(walk, depth)),
    parentProblem,
    close: () => chain.close(),
    async *entries() {
      for await (const extent of walkExtents(chain, { offset: 0, length: chain.virtualSize })) {
        throwIfAborted(signal, 'map');
        const { offset, length, state, depth } = extent;
        if (extent.state !== 'data') yield { offset, length, state, depth };
        else yield { offset, length, state, file: extent.file.path, fileOffset: extent.fileOffset, depth };
      }
    },
  };
}
