/**
 * What a merge is going to do, and whether everything is fit for it. Nothing is written here.
 *
 * Invariants: all refusals that can be foreseen come from here, before anything is changed. An image that
 * others depend on is changed only on demand; the ones found are named.
 */
import { dirname } from 'node:path';
import { VhdkitError } from '../../base/errors.js';
import { randomGuid } from '../../base/random.js';
import { type Chain, openChain } from '../../formats/chain.js';
import type { DiskImage } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import { sameFile } from '../../io/file-system.js';
import { assertNoChildren, findChildren } from '../children.js';
import { examine } from '../convert/plan.js';
import type { Host } from '../host.js';
import { findLeftovers } from './leftovers.js';
import type { MergeOptions } from './types.js';

export interface MergePlan {
  /** Paths of the images to merge, top first; each is the parent of the one before, the target of the last. */
  merged: readonly string[];
  /** Those of them that are neither child nor target, and what an interrupted merge left of such; top first. */
  between: readonly { path: string; id: string }[];
  target: string;
  /** The id that the target has now. */
  targetId: string | undefined;
  /** The id that the target gets with its first change, where an id stands for contents (VHDX). */
  nextId: string | undefined;
  /** Ids by which the image above the target accepts it now. */
  acceptedIds: readonly string[];
  /** Bytes: of the child's disk, and of what lies beneath a differencing target. */
  virtualSize: number;
  beneath: number | undefined;
  /** Images that depend on the child, and are to depend on the target when the child is gone. */
  dependents: readonly string[];
  warnings: Finding[];
}

function identified(image: DiskImage): { path: string; id: string } {
  return { path: image.file.path, id: image.linkId ?? '' };
}

function invalid(path: string, message: string, hint: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', message, { operation: 'plan merge', context: { path }, hint });
}

/** @throws UNSUPPORTED when the image has no parent */
export function assertHasParent(chain: Chain): void {
  if (chain.images.length > 1) return;
  const { path } = chain.top.file;
  throw new VhdkitError(
    'UNSUPPORTED',
    `${path} is not a differencing image: it has no parent to merge into`,
    {
      operation: 'plan merge',
      context: { path },
      hint: 'Use `vhdkit convert` for a copy of it.',
    },
  );
}

/** Place of the target in the chain. */
async function targetIndex(host: Host, chain: Chain, to: string | undefined): Promise<number> {
  if (to === undefined) return 1;
  const identity = await host.fileSystem.identity(to);
  for (const [index, image] of chain.images.entries()) {
    const other = await host.fileSystem.identity(image.file.path);
    if (!identity || !other || !sameFile(identity, other)) continue;
    if (index > 0) return index;
    throw invalid(to, `${to} is the image that is to be merged`, 'Name one of its parents, or a new image.');
  }
  const parents = chain.images.slice(1).map((image) => image.file.path);
  throw invalid(
    to,
    `${to} is there, but ${chain.top.file.path} does not depend on it`,
    `Name one of its parents (${parents.join(', ')}), or an image that is not there yet.`,
  );
}

function assertFiles(images: readonly DiskImage[]): void {
  const device = images.find((image) => image.file.kind === 'device');
  if (!device) return;
  const { path } = device.file;
  throw new VhdkitError('UNSUPPORTED', `${path} is a block device: merging changes and grows files`, {
    operation: 'plan merge',
    context: { path },
    hint: 'Merge into a new image: --to NEWFILE.',
  });
}

/** Where images that depend on these may be: where they were named, and where they really lie. */
async function placesOf({ fileSystem }: Host, images: readonly DiskImage[]): Promise<string[]> {
  const folders = new Set<string>();
  for (const { file } of images) {
    const real = await fileSystem.realPath?.(file.path).catch(() => undefined);
    for (const path of [file.path, real ?? file.path]) folders.add(dirname(path));
  }
  return [...folders];
}

/**
 * Refuses a merge that others would notice; with `force`, says who they are.
 * The target changes, and with it what the images between it and the child show.
 */
async function otherChildren(
  host: Host,
  images: readonly DiskImage[],
  left: readonly string[],
  force: boolean,
): Promise<Finding[]> {
  const places = await placesOf(host, images);
  // Images of the chain are not opened once more for each of them.
  const known = [...images.map((image) => image.file.path), ...left];
  const warnings: Finding[] = [];
  for (const image of images.slice(1)) {
    const others = await findChildren(host, image, places, known);
    if (!force) {
      assertNoChildren(image, others, 'Merge them first, or use --force if they are not needed any more.');
    }
    for (const { path } of others) {
      warnings.push({
        code: 'MERGE_BREAKS_CHILD',
        severity: 'warning',
        message: `${path} depends on ${image.file.path} and does not show any more what it did`,
        repairable: false,
      });
    }
  }
  return warnings;
}

/**
 * The id that the target is to get. If it already has the second one that the child accepts, an interrupted
 * merge gave it that: this one goes on with it. An announced id that it has not got is not trusted, because
 * some programs leave junk there; another one takes its place.
 */
function nextIdFor(host: Host, target: DiskImage, acceptedIds: readonly string[]): string | undefined {
  if (target.format !== 'vhdx') return undefined;
  return target.linkId === acceptedIds[0] ? randomGuid(host.random) : target.linkId;
}

/**
 * @throws what opening a chain throws; INVALID_ARGUMENT, UNSUPPORTED, IMAGE_CORRUPT, IN_USE (others depend
 *   on what would change)
 */
export async function planMerge(host: Host, options: MergeOptions): Promise<MergePlan> {
  const chain = await openChain(host.fileSystem, options.child);
  try {
    assertHasParent(chain);
    const index = await targetIndex(host, chain, options.to);
    const images = chain.images.slice(0, index + 1);
    const merged = images.slice(0, index);
    const target = images[index] as DiskImage;
    assertFiles(images);
    const warnings = await examine(chain);
    const left = index > 1 ? [] : await findLeftovers(host.fileSystem, options.child, target);
    const leftPaths = left.map(({ path }) => path);
    warnings.push(...(await otherChildren(host, images, leftPaths, options.force ?? false)));
    const places = await placesOf(host, images);
    const dependents = options.delete ? await findChildren(host, chain.top, places, leftPaths) : [];
    const acceptedIds = merged.at(-1)?.parentLink?.acceptedIds ?? [];
    return {
      merged: merged.map((image) => image.file.path),
      between: index > 1 ? merged.slice(1).map(identified) : left,
      target: target.file.path,
      targetId: target.linkId,
      nextId: nextIdFor(host, target, acceptedIds),
      acceptedIds,
      virtualSize: chain.virtualSize,
      beneath: chain.images[index + 1]?.virtualSize,
      dependents: dependents.map(({ path }) => path),
      warnings,
    };
  } finally {
    await chain.close();
  }
}
