/**
 * Images that depend on a given one: who would show something else if it changed.
 *
 * Invariant: an image counts as a child by the id it asks for, as everywhere; one whose own paths lead to
 * another file with that id (a copy of the parent) is that file's child. What can't be read can't be shown
 * to depend on anything and is passed over: a damaged neighbour must not stop work on others.
 *
 * Not here: children elsewhere. No image knows its children, so only places that are named are looked at.
 */
import { dirname, join } from 'node:path';
import { isVhdkitError, VhdkitError } from '../base/errors.js';
import { resolveParent } from '../formats/chain.js';
import type { DiskImage } from '../formats/disk-image.js';
import { openImage } from '../formats/registry.js';
import { type FileIdentity, type FileSystem, sameFile } from '../io/file-system.js';
import type { Host } from './host.js';

/** An image that depends on the parent asked for. */
export interface ChildImage {
  path: string;
}

/** Names under which Windows and its tools keep images that can have parents. */
const IMAGE_NAME = /\.a?vhdx?$/i;

/** The files to look at: files as they are, of folders those that are named like images. */
async function candidates(fileSystem: FileSystem, places: readonly string[]): Promise<string[]> {
  const paths: string[] = [];
  for (const place of places) {
    const kind = await fileSystem.kind(place).catch(() => 'absent');
    if (kind === 'file') paths.push(place);
    if (kind === 'file' || kind === 'device') continue;
    const names = (await fileSystem.list(place)).filter((name) => IMAGE_NAME.test(name)).sort();
    paths.push(...names.map((name) => join(place, name)));
  }
  return paths;
}

/** True when the image was made over the parent, or over something that only the parent can be. */
async function dependsOn(
  fileSystem: FileSystem,
  image: DiskImage,
  parent: { linkId: string; format: string; identity: FileIdentity | undefined },
): Promise<boolean> {
  if (image.format !== parent.format || !image.parentLink?.acceptedIds.includes(parent.linkId)) return false;
  const found = await resolveParent(fileSystem, image);
  if (found.status !== 'matches') return true;
  const identity = await fileSystem.identity(found.path);
  await found.image.close();
  return !identity || !parent.identity || sameFile(identity, parent.identity);
}

async function foldersOf(fileSystem: FileSystem, path: string): Promise<string[]> {
  const real = await fileSystem.realPath?.(path).catch(() => undefined);
  return [...new Set([dirname(path), dirname(real ?? path)])];
}

/**
 * Finds the images that depend on `parent`, directly.
 * @param places folders to look into (not below them) and files to look at; default: the folder in which the
 *   parent was named, and the one in which it lies
 * @param except paths, under any name, of images that are known and do not count
 */
export async function findChildren(
  { fileSystem }: Pick<Host, 'fileSystem'>,
  parent: DiskImage,
  places?: readonly string[],
  except: readonly string[] = [],
): Promise<ChildImage[]> {
  const { linkId, format } = parent;
  if (linkId === undefined) return [];
  const wanted = { linkId, format, identity: await fileSystem.identity(parent.file.path) };
  const seen: FileIdentity[] = wanted.identity ? [wanted.identity] : [];
  for (const path of except) {
    const identity = await fileSystem.identity(path);
    if (identity) seen.push(identity);
  }
  const children: ChildImage[] = [];
  const where = places ?? (await foldersOf(fileSystem, parent.file.path));
  for (const path of await candidates(fileSystem, where)) {
    const identity = await fileSystem.identity(path);
    if (!identity || seen.some((other) => sameFile(other, identity))) continue;
    seen.push(identity);
    const image = await openIfImage(fileSystem, path);
    try {
      if (image && (await dependsOn(fileSystem, image, wanted))) children.push({ path });
    } finally {
      await image?.close();
    }
  }
  return children;
}

async function openIfImage(fileSystem: FileSystem, path: string): Promise<DiskImage | undefined> {
  try {
    return await openImage(await fileSystem.open(path));
  } catch (error) {
    if (isVhdkitError(error)) return undefined;
    throw error;
  }
}

/**
 * Refuses to change an image that others depend on.
 * @throws IN_USE naming the children
 */
export function assertNoChildren(parent: DiskImage, children: readonly ChildImage[], hint: string): void {
  const [first, ...others] = children;
  if (!first) return;
  const { path } = parent.file;
  const more = others.length > 0 ? ` and ${others.length} more` : '';
  throw new VhdkitError(
    'IN_USE',
    `${path} is the parent of ${first.path}${more}: changing it would break what depends on it`,
    {
      operation: 'look for children',
      context: { path, children: children.map((child) => child.path) },
      hint,
    },
  );
}
