/**
 * Chains of differencing images: finding each parent, making sure it is the right one, and reading
 * through the whole.
 *
 * Invariant: a parent is accepted by its identity, never by its path alone; a chain without one of its
 * parents is never read as if the missing parts were zeros (unless the caller asks for exactly the child's
 * own data). Parents are opened for reading only.
 */
import { dirname, sep } from 'node:path';
import { VhdkitError } from '../base/errors.js';
import { type ChainExtent, pushExtent } from '../block/extent.js';
import { type FileIdentity, type FileSystem, sameFile } from '../io/file-system.js';
import type { DiskImage, FormatId, ParentLink } from './disk-image.js';
import { assertInsideDisk } from './image-reader.js';
import { type PathTry, parentBaseName, parentPaths } from './parent-path.js';
import { openImage } from './registry.js';

/** Longest chain that is followed. */
export const MAX_CHAIN_DEPTH = 256;

export type LinkStatus = 'matches' | 'missing' | 'mismatch' | 'unreadable';

/** What came of looking for a parent. */
export type ParentResolution =
  | { status: 'matches'; image: DiskImage; path: string }
  | { status: 'missing'; path: string; tried: readonly string[] }
  | { status: 'mismatch'; path: string; reason: string; foundId: string }
  | { status: 'unreadable'; path: string; cause: VhdkitError };

/** The tries that exist, the ones that differ only in case included. */
async function existing(fileSystem: FileSystem, tries: readonly PathTry[]): Promise<string[]> {
  const found: string[] = [];
  for (const { path } of tries) {
    const kind = await fileSystem.kind(path).catch(() => 'absent');
    if (kind === 'file' || kind === 'device') found.push(path);
  }
  if (found.length > 0) return found;
  const names = new Set(tries.map(({ path }) => parentBaseName(path).toLowerCase()));
  const folders = new Set(tries.map(({ path }) => dirname(path)));
  for (const folder of folders) {
    for (const name of await fileSystem.list(folder)) {
      if (names.has(name.toLowerCase())) found.push(`${folder}/${name}`);
    }
  }
  return found;
}

/** Why an opened candidate is not the parent, or undefined when it is. */
function mismatch(child: DiskImage, link: ParentLink, candidate: DiskImage): string | undefined {
  if (candidate.format !== child.format) return `it is a ${candidate.format} image, not ${child.format}`;
  if (candidate.linkId === undefined || !link.acceptedIds.includes(candidate.linkId)) {
    return `its id is ${candidate.linkId ?? 'unknown'}, the child expects ${link.acceptedIds.join(' or ')}`;
  }
  if (candidate.logicalSectorSize !== child.logicalSectorSize) {
    return `its sectors have ${candidate.logicalSectorSize} bytes, the child's ${child.logicalSectorSize}`;
  }
  return undefined;
}

/**
 * Looks for the parent of a differencing image. Opens it when it is found and the right one.
 * Never throws for what is wrong with a candidate; that is the answer.
 */
export async function resolveParent(fileSystem: FileSystem, child: DiskImage): Promise<ParentResolution> {
  const link = child.parentLink;
  const expected = link?.candidates[0]?.path ?? '';
  if (!link) return { status: 'missing', path: expected, tried: [] };
  const childIdentity = await fileSystem.identity(child.file.path);
  const tries = parentPaths(link.candidates, dirname(child.file.path), sep === '\\');
  let worst: ParentResolution = { status: 'missing', path: expected, tried: tries.map(({ path }) => path) };
  for (const path of await existing(fileSystem, tries)) {
    const identity = await fileSystem.identity(path);
    const itself = identity && childIdentity && sameFile(identity, childIdentity);
    try {
      const image = await openImage(await fileSystem.open(path));
      const reason = mismatch(child, link, image);
      if (reason === undefined) return { status: 'matches', image, path };
      if (!itself) worst = { status: 'mismatch', path, reason, foundId: image.linkId ?? '' };
      await image.close();
    } catch (error) {
      if (!(error instanceof VhdkitError)) throw error;
      worst = { status: 'unreadable', path, cause: error };
    }
  }
  return worst;
}

function resolutionError(
  child: DiskImage,
  resolution: Exclude<ParentResolution, { status: 'matches' }>,
): VhdkitError {
  const path = child.file.path;
  const operation = 'open parent image';
  switch (resolution.status) {
    case 'missing':
      return new VhdkitError('PARENT_MISSING', `${path}: its parent '${resolution.path}' was not found`, {
        operation,
        context: { path, parent: resolution.path, tried: resolution.tried },
        hint: `Put '${parentBaseName(resolution.path)}' into the folder of the child, or restore it at the path named.`,
      });
    case 'mismatch':
      return new VhdkitError(
        'PARENT_MISMATCH',
        `${path}: '${resolution.path}' is not the parent this image was made from: ${resolution.reason}`,
        {
          operation,
          context: {
            path,
            parent: resolution.path,
            expected: child.parentLink?.acceptedIds ?? [],
            found: resolution.foundId,
          },
          hint: 'Find the original parent; one that was changed since does not fit any more.',
        },
      );
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
    for (const image of this.images) await image.close();
  }
}

export interface OpenChainOptions {
  format?: FormatId;
  /** Leave the parents alone: ranges that only a parent knows stay `absent`. */
  withoutParent?: boolean;
  /** Longest chain accepted; default MAX_CHAIN_DEPTH. */
  maxDepth?: number;
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
  const maxDepth = options.maxDepth ?? MAX_CHAIN_DEPTH;
  const images = [
    await openImage(await fileSystem.open(path), options.format ? { format: options.format } : {}),
  ];
  const seen: FileIdentity[] = [];
  try {
    for (;;) {
      const image = images.at(-1) as DiskImage;
      await assertNew(fileSystem, image, seen);
      if (!image.parentLink || options.withoutParent) return new Chain(images);
      if (images.length >= maxDepth) {
        throw new VhdkitError(
          'CHAIN_TOO_DEEP',
          `${path}: more than ${maxDepth} images depend on each other`,
          {
            operation: 'open parent image',
            context: { path, depth: images.length },
          },
        );
      }
      const resolution = await resolveParent(fileSystem, image);
      if (resolution.status !== 'matches') throw resolutionError(image, resolution);
      images.push(resolution.image);
    }
  } catch (error) {
    for (const image of images) await image.close();
    throw error;
  }
}

async function assertNew(fileSystem: FileSystem, image: DiskImage, seen: FileIdentity[]): Promise<void> {
  const identity = await fileSystem.identity(image.file.path);
  if (!identity) return;
  if (seen.some((other) => sameFile(other, identity))) {
    throw new VhdkitError('PARENT_LOOP', `${image.file.path} is its own ancestor`, {
      operation: 'open parent image',
      context: { path: image.file.path },
      hint: 'One of the links is wrong; find the parent it was made from.',
    });
  }
  seen.push(identity);
}
