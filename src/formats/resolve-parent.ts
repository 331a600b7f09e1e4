/**
 * Finding the parent of a differencing image, and saying what was found.
 *
 * Invariants: a parent is accepted by its identity, never by its path alone. What is wrong with a candidate
 * is an answer, not an error. Of several candidates none of which fits, the one that says most is reported:
 * the parent itself in a later state, then another image, then one that can't be read.
 *
 * Not here: following a whole chain (chain.ts), paths (parent-path.ts).
 */
import { dirname, join, sep } from 'node:path';
import { isVhdkitError, systemCode, VhdkitError } from '../base/errors.js';
import { type FileSystem, sameFile } from '../io/file-system.js';
import type { DiskImage, ParentLink } from './disk-image.js';
import { firstChoice, type PathTry, parentBaseName, parentPaths } from './parent-path.js';
import { openImage } from './registry.js';

export type LinkStatus = 'matches' | 'missing' | 'mismatch' | 'unreadable';

/** In what a candidate differs from the parent: the same disk in another state (`modified`), or another one. */
export type ParentDifference = 'modified' | 'id' | 'format' | 'sectors';

/** Times of the parent's file, milliseconds since 1970. */
export interface ParentTimes {
  /** What the child remembers. */
  expected: number;
  found: number;
}

/** What came of looking for a parent. */
export type ParentResolution =
  | {
      status: 'matches';
      image: DiskImage;
      path: string;
      /** True when it is not where the child's first locator says. */
      moved: boolean;
      /** Set when its file has another time of change than the child remembers (VHD). Proves nothing. */
      times?: ParentTimes;
    }
  | { status: 'missing'; path: string; tried: readonly string[] }
  | { status: 'mismatch'; path: string; reason: string; foundId: string; difference: ParentDifference }
  | { status: 'unreadable'; path: string; cause: VhdkitError };

type Failure = Exclude<ParentResolution, { status: 'matches' }>;

/** Most names that differ only in case: there are no more on any system that cares. */
const MAX_CASE_VARIANTS = 16;

/** The paths as they stand, then files beside them whose names differ only in case. */
async function* places(fileSystem: FileSystem, tries: readonly PathTry[]): AsyncGenerator<string> {
  const exact = new Set(tries.map(({ path }) => path));
  yield* exact;
  const names = new Set(tries.map(({ path }) => parentBaseName(path).toLowerCase()));
  let variants = 0;
  for (const folder of new Set(tries.map(({ path }) => dirname(path)))) {
    for (const name of await fileSystem.list(folder)) {
      const path = join(folder, name);
      if (!names.has(name.toLowerCase()) || exact.has(path)) continue;
      variants += 1;
      if (variants > MAX_CASE_VARIANTS) return;
      yield path;
    }
  }
}

function notADisk(path: string): VhdkitError {
  return new VhdkitError('NOT_A_DISK', `${path} is not a file`, {
    operation: 'open parent image',
    context: { path },
    hint: 'Move away what lies there and restore the parent.',
  });
}

/** True when both are children of one parent: they share the disk's id without being each other's state. */
function areSiblings(a: DiskImage, b: DiskImage): boolean {
  return a.parentLink?.acceptedIds.some((id) => b.parentLink?.acceptedIds.includes(id)) ?? false;
}

interface Mismatch {
  difference: ParentDifference;
  reason: string;
}

/** Why an opened candidate is not the parent, or undefined when it is. */
function mismatch(child: DiskImage, link: ParentLink, candidate: DiskImage): Mismatch | undefined {
  const { format, linkId, logicalSectorSize, id } = candidate;
  if (format !== child.format) {
    return { difference: 'format', reason: `it is a ${format} image, not ${child.format}` };
  }
  if (linkId === undefined || !link.acceptedIds.includes(linkId)) {
    const ids = `its id is ${linkId ?? 'unknown'}, the child expects ${link.acceptedIds.join(' or ')}`;
    // Where the link id stands for the content (VHDX), the id of the disk stays when the content changes.
    const sameDisk = id !== undefined && id !== linkId && id === child.id && !areSiblings(child, candidate);
    return sameDisk
      ? { difference: 'modified', reason: `it was modified since: ${ids}` }
      : { difference: 'id', reason: ids };
  }
  if (logicalSectorSize !== child.logicalSectorSize) {
    return {
      difference: 'sectors',
      reason: `its sectors have ${logicalSectorSize} bytes, the child's ${child.logicalSectorSize}`,
    };
  }
  return undefined;
}

const SECOND = 1000;
const QUARTER_HOUR = 900 * SECOND;
/** From the westernmost to the easternmost time zone, and an hour of summer time. */
const ZONES = 27 * 3600 * SECOND;

/** True when two times of a file may be the same: FAT knows even seconds only, some writers local time. */
function sameTime(a: number, b: number): boolean {
  const apart = Math.abs(a - b);
  const beyondQuarters = apart % QUARTER_HOUR;
  return apart <= ZONES && Math.min(beyondQuarters, QUARTER_HOUR - beyondQuarters) <= 2 * SECOND;
}

function timesOf(link: ParentLink, image: DiskImage): ParentTimes | undefined {
  const expected = link.parentModified;
  const mtime = image.file.fingerprint()?.mtime;
  if (expected === undefined || mtime === undefined) return undefined;
  const found = Number(mtime / 1_000_000n);
  return sameTime(expected, found) ? undefined : { expected, found };
}

function sameButCase(a: string, b: string): boolean {
  return dirname(a) === dirname(b) && a.toLowerCase() === b.toLowerCase();
}

/** How much a failure says. */
function weight(failure: Failure): number {
  if (failure.status === 'mismatch') return failure.difference === 'modified' ? 3 : 2;
  return failure.status === 'unreadable' ? 1 : 0;
}

/** As `kind`, for paths out of a file: one that the system won't have names nothing. */
async function kindOf(fileSystem: FileSystem, path: string): Promise<'file' | 'device' | 'other' | 'absent'> {
  try {
    return await fileSystem.kind(path);
  } catch (error) {
    if (isVhdkitError(error) && ['ENAMETOOLONG', 'EINVAL'].includes(systemCode(error.cause) ?? ''))
      return 'absent';
    throw error;
  }
}

/** What is at a path: the parent, something else, or undefined for nothing (or the child itself). */
async function look(
  fileSystem: FileSystem,
  child: DiskImage,
  link: ParentLink,
  path: string,
): Promise<{ image: DiskImage } | Failure | undefined> {
  try {
    const kind = await kindOf(fileSystem, path);
    if (kind === 'absent') return undefined;
    if (kind === 'other') return { status: 'unreadable', path, cause: notADisk(path) };
    const image = await openImage(await fileSystem.open(path));
    const wrong = mismatch(child, link, image);
    if (wrong === undefined) return { image };
    await image.close();
    const identities = [await fileSystem.identity(path), await fileSystem.identity(child.file.path)];
    const [a, b] = identities;
    if (a && b && sameFile(a, b)) return undefined;
    return { status: 'mismatch', path, foundId: image.linkId ?? '', ...wrong };
  } catch (error) {
    if (!isVhdkitError(error)) throw error;
    return { status: 'unreadable', path, cause: error };
  }
}

/** Where a relative path may begin: the folder in which the child was named, and the one in which it lies. */
async function foldersOf(fileSystem: FileSystem, path: string): Promise<string[]> {
  const real = await fileSystem.realPath?.(path).catch(() => undefined);
  return [...new Set([dirname(path), ...(real === undefined ? [] : [dirname(real)])])];
}

/**
 * Looks for the parent of a differencing image. Opens it when it is found and the right one.
 * Never throws for what is wrong with a candidate; that is the answer.
 */
export async function resolveParent(fileSystem: FileSystem, child: DiskImage): Promise<ParentResolution> {
  const link = child.parentLink;
  const expected = link?.candidates[0]?.path ?? '';
  if (!link) return { status: 'missing', path: expected, tried: [] };
  const folders = await foldersOf(fileSystem, child.file.path);
  const windows = sep === '\\';
  const tries = folders
    .flatMap((folder) => parentPaths(link.candidates, folder, windows))
    .filter(({ path }) => !folders.includes(path));
  const firsts = folders.map((folder) => firstChoice(link.candidates, folder, windows));
  let worst: Failure = { status: 'missing', path: expected, tried: tries.map(({ path }) => path) };
  for await (const path of places(fileSystem, tries)) {
    const found = await look(fileSystem, child, link, path);
    if (found && 'image' in found) {
      const { image } = found;
      const times = timesOf(link, image);
      const moved = !firsts.some((first) => first !== undefined && sameButCase(first, path));
      return { status: 'matches', image, path, moved, ...(times ? { times } : {}) };
    }
    if (found && weight(found) > weight(worst)) worst = found;
  }
  return worst;
}
