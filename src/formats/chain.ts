/**
 * Chains of differencing images: following their links, judging each, and reading through the whole.
 *
 * Invariant: a parent is accepted by its identity, never by its path alone; a chain without one of its
 * parents is never read as if the missing parts were zeros (unless the caller asks for exactly the child's
 * own data). Parents are opened for reading only.
 *
 * Not here: finding one parent (resolve-parent.ts).
 */
import { VhdkitError } from '../base/errors.js';
import { type ChainExtent, pushExtent } from '../block/extent.js';
import { type FileIdentity, type FileSystem, sameFile } from '../io/file-system.js';
import type { DiskImage, FormatId } from './disk-image.js';
import { assertInsideDisk } from './image-reader.js';
import { parentBaseName } from './parent-path.js';
import { openImage } from './registry.js';
import { type ParentResolution, resolveParent } from './resolve-parent.js';

export { type LinkStatus, type ParentResolution, resolveParent } from './resolve-parent.js';

/** Longest chain that is followed. */
export const MAX_CHAIN_DEPTH = 256;

/**
 * What a link of a chain is worth. The first two can be read through; `modified` is the parent in a later
 * state than the child was made for, `wrong-*` another image, `loop` an image that was in the chain before.
 */
export type LinkVerdict =
  | 'matches'
  | 'moved'
  | 'modified'
  | 'missing'
  | 'wrong-id'
  | 'wrong-format'
  | 'wrong-sectors'
  | 'unreadable'
  | 'loop'
  | 'too-deep';

export interface ChainLink {
  verdict: LinkVerdict;
  /** Of a loop and a chain too deep, the image is closed. */
  resolution: ParentResolution;
}

const MISMATCH_VERDICTS = {
  modified: 'modified',
  id: 'wrong-id',
  format: 'wrong-format',
  sectors: 'wrong-sectors',
} as const;

function verdictOf(resolution: ParentResolution): LinkVerdict {
  if (resolution.status === 'mismatch') return MISMATCH_VERDICTS[resolution.difference];
  if (resolution.status !== 'matches') return resolution.status;
  return resolution.moved ? 'moved' : 'matches';
}

/** True when a chain can be read through the link. */
export function isSound({ verdict }: ChainLink): boolean {
  return verdict === 'matches' || verdict === 'moved';
}

const OPERATION = 'open parent image';

function loopError(path: string): VhdkitError {
  return new VhdkitError('PARENT_LOOP', `${path} is its own ancestor`, {
    operation: OPERATION,
    context: { path },
    hint: 'One of the links is wrong; find the parent it was made from.',
  });
}

function depthError(path: string, depth: number): VhdkitError {
  return new VhdkitError('CHAIN_TOO_DEEP', `${path}: more than ${depth} images depend on each other`, {
    operation: OPERATION,
    context: { path, depth },
    hint: 'Merge some of them, or convert an image further down into one that stands alone.',
  });
}

function mismatchError(
  child: DiskImage,
  resolution: Extract<ParentResolution, { status: 'mismatch' }>,
): VhdkitError {
  const { path } = child.file;
  const { path: parent, reason, difference, foundId } = resolution;
  const modified = difference === 'modified';
  const what = modified
    ? `its parent '${parent}' does not fit any more`
    : `'${parent}' is not the parent this image was made from`;
  return new VhdkitError('PARENT_MISMATCH', `${path}: ${what}: ${reason}`, {
    operation: OPERATION,
    context: { path, parent, expected: child.parentLink?.acceptedIds ?? [], found: foundId, difference },
    hint: modified
      ? 'Restore the parent as it was when this image was made; changed as it is, it does not fit any more.'
      : 'Find the original parent; one that was changed since does not fit any more.',
  });
}

/**
 * The error for a link that can't be read through: PARENT_MISSING, PARENT_MISMATCH, PARENT_LOOP,
 * CHAIN_TOO_DEEP, or what makes the parent unreadable.
 * @param depth images in the chain, the child's included
 */
export function linkError(child: DiskImage, { verdict, resolution }: ChainLink, depth: number): VhdkitError {
  const path = child.file.path;
  const operation = OPERATION;
  if (verdict === 'loop') return loopError(resolution.path);
  switch (resolution.status) {
    case 'matches':
      return depthError(path, depth);
    case 'missing':
      return new VhdkitError('PARENT_MISSING', `${path}: its parent '${resolution.path}' was not found`, {
        operation,
        context: { path, parent: resolution.path, tried: resolution.tried },
        hint: `Put '${parentBaseName(resolution.path)}' into the folder of the child, or restore it at the path named.`,
      });
    case 'mismatch':
      return mismatchError(child, resolution);
    case 'unreadable':
      return new VhdkitError(
        resolution.cause.code,
        `${path}: its parent can't be read: ${resolution.cause.message}`,
        {
          operation,
          context: { ...resolution.cause.context, child: path },
          cause: resolution.cause,
          hint: resolution.cause.hint ?? 'Repair or restore the parent.',
        },
      );
  }
}

/** An image with all its parents, top first. Owns them. */
export class Chain {
  readonly images: readonly DiskImage[];
  readonly virtualSize: number;

  constructor(images: readonly DiskImage[]) {
    this.images = images;
    this.virtualSize = this.top.virtualSize;
  }

  get top(): DiskImage {
    return this.images[0] as DiskImage;
  }

  /** What the whole chain shows. `absent` occurs only where the last image is one without its parent. */
  async locate(offset: number, length: number): Promise<ChainExtent[]> {
    assertInsideDisk(this.virtualSize, offset, length, this.top.file.path);
    const extents: ChainExtent[] = [];
    await this.#locateAt(0, offset, length, extents);
    return extents;
  }

  async #locateAt(depth: number, offset: number, length: number, out: ChainExtent[]): Promise<void> {
    const image = this.images[depth] as DiskImage;
    // A parent may be smaller than its child: what lies past its end is zero.
    const inside = Math.max(0, Math.min(length, image.virtualSize - offset));
    if (inside > 0) {
      for (const extent of await image.locate(offset, inside)) {
        if (extent.state === 'absent' && depth + 1 < this.images.length) {
          await this.#locateAt(depth + 1, extent.offset, extent.length, out);
        } else {
          pushExtent(out, { ...extent, depth });
        }
      }
    }
    if (inside < length)
      pushExtent(out, { state: 'zero', offset: offset + inside, length: length - inside, depth });
  }

  async close(): Promise<void> {
    await closeImages(this.images);
  }
}

export interface OpenChainOptions {
  format?: FormatId;
  /** Leave the parents alone: ranges that only a parent knows stay `absent`. */
  withoutParent?: boolean;
  /** Longest chain accepted; default MAX_CHAIN_DEPTH. */
  maxDepth?: number;
}

/** A chain as far as it can be followed. */
export interface ChainWalk {
  /** Top first, at least one. The caller closes them. */
  images: DiskImage[];
  /** How `images[i]` finds its parent, which is `images[i + 1]` while links are sound. */
  links: ChainLink[];
}

/** Closes images, in order. */
export async function closeImages(images: readonly DiskImage[]): Promise<void> {
  for (const image of images) await image.close();
}

/** Finds the parent of the last image, and adds it when it can be read through. */
async function step(
  fileSystem: FileSystem,
  walk: ChainWalk,
  seen: FileIdentity[],
  maxDepth: number,
): Promise<void> {
  const child = walk.images.at(-1) as DiskImage;
  const resolution = await resolveParent(fileSystem, child);
  const link: ChainLink = { verdict: verdictOf(resolution), resolution };
  walk.links.push(link);
  if (resolution.status !== 'matches') return;
  const identity = await fileSystem.identity(resolution.path);
  const again = identity !== undefined && seen.some((other) => sameFile(other, identity));
  if (again || walk.images.length >= maxDepth) {
    link.verdict = again ? 'loop' : 'too-deep';
    await resolution.image.close();
    return;
  }
  if (identity) seen.push(identity);
  walk.images.push(resolution.image);
}

/**
 * Opens an image and its parents as far as they are found and right. What is wrong with a link is part of
 * the answer.
 * @param options `links`: follow at most so many of them
 * @throws what opening the image itself throws
 */
export async function walkChain(
  fileSystem: FileSystem,
  path: string,
  options: OpenChainOptions & { links?: number } = {},
): Promise<ChainWalk> {
  const { format, withoutParent = false, maxDepth = MAX_CHAIN_DEPTH, links = maxDepth } = options;
  const top = await openImage(await fileSystem.open(path), format ? { format } : {});
  const walk: ChainWalk = { images: [top], links: [] };
  const identity = await fileSystem.identity(path);
  const seen = identity ? [identity] : [];
  try {
    while (!withoutParent && walk.images.at(-1)?.parentLink && walk.links.length < links) {
      await step(fileSystem, walk, seen, maxDepth);
      if (walk.links.length >= walk.images.length) break;
    }
  } catch (error) {
    await closeImages(walk.images);
    throw error;
  }
  return walk;
}

/**
 * Opens an image and all its parents.
 * @throws PARENT_MISSING, PARENT_MISMATCH, PARENT_LOOP, CHAIN_TOO_DEEP and what opening an image throws
 */
export async function openChain(
  fileSystem: FileSystem,
  path: string,
  options: OpenChainOptions = {},
): Promise<Chain> {
  const { images, links } = await walkChain(fileSystem, path, options);
  const last = links.at(-1);
  if (!last || isSound(last)) return new Chain(images);
  await closeImages(images);
  throw linkError(images.at(-1) as DiskImage, last, images.length);
}
