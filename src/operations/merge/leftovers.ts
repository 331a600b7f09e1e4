/**
 * Remembers the images between child and target while the child's link moves past them.
 *
 * From the moment when the child depends on the target directly, nothing leads from it to these images any
 * more, yet they must be dealt with (they are not what they were); a merge that is interrupted right then
 * finds them through a small file beside the child.
 *
 * Invariants: the file is durable before the child's link moves, and removed when everything is dealt with.
 * Only images that still have the ids recorded are taken for what it speaks of.
 */
import { basename, dirname, join, relative, resolve } from 'node:path';
import { isVhdkitError } from '../../base/errors.js';
import type { DiskImage } from '../../formats/disk-image.js';
import { openImage } from '../../formats/registry.js';
import type { FileSystem } from '../../io/file-system.js';

/** An image that was merged, by its path from the child's folder. */
interface Left {
  path: string;
  id: string;
}

interface Leftovers {
  /** Link id of the target. */
  target: string;
  /** Top first. */
  images: Left[];
}

/** Longer ones are not ours: a chain has a few hundred images at most. */
const MAX_LENGTH = 1024 * 1024;

/** The folder in which the child really lies, and the file there that speaks of it. */
async function placeOf(fileSystem: FileSystem, child: string): Promise<{ folder: string; record: string }> {
  const real = (await fileSystem.realPath?.(child)) ?? child;
  const folder = resolve(dirname(real));
  return { folder, record: join(folder, `.${basename(real)}.vhdkit-merge`) };
}

function isLeft(value: unknown): value is Left {
  const { path, id } = (value ?? {}) as Partial<Record<keyof Left, unknown>>;
  return typeof path === 'string' && typeof id === 'string';
}

function parse(text: string): Leftovers | undefined {
  try {
    const { target, images } = (JSON.parse(text) ?? {}) as Partial<Record<keyof Leftovers, unknown>>;
    if (typeof target !== 'string' || !Array.isArray(images) || !images.every(isLeft)) return undefined;
    return { target, images };
  } catch {
    return undefined;
  }
}

async function read(fileSystem: FileSystem, path: string): Promise<Leftovers | undefined> {
  if ((await fileSystem.kind(path)) !== 'file') return undefined;
  const file = await fileSystem.open(path);
  try {
    if (file.size() > MAX_LENGTH) return undefined;
    const bytes = Buffer.alloc(file.size());
    await file.read(bytes, 0);
    return parse(bytes.toString());
  } finally {
    await file.close();
  }
}

async function idOf(fileSystem: FileSystem, path: string): Promise<string | undefined> {
  try {
    const image = await openImage(await fileSystem.open(path));
    const { linkId, parentLink } = image;
    await image.close();
    return parentLink && linkId;
  } catch (error) {
    if (isVhdkitError(error)) return undefined;
    throw error;
  }
}

/** Records the images; durable when it returns. */
export async function recordLeftovers(
  fileSystem: FileSystem,
  child: string,
  target: DiskImage,
  images: readonly { path: string; id: string }[],
): Promise<void> {
  const { folder, record: place } = await placeOf(fileSystem, child);
  const record: Leftovers = {
    target: target.linkId ?? '',
    images: images.map(({ path, id }) => ({ path: relative(folder, resolve(path)), id })),
  };
  const pending = await fileSystem.createPending(place, { overwrite: true });
  try {
    await pending.file.write(Buffer.from(`${JSON.stringify(record)}\n`), 0);
    await pending.publish();
  } catch (error) {
    await pending.discard();
    throw error;
  }
}

/** The images that an interrupted merge of the child into this target left, top first. */
export async function findLeftovers(
  fileSystem: FileSystem,
  child: string,
  target: DiskImage,
): Promise<{ path: string; id: string }[]> {
  const { folder, record: place } = await placeOf(fileSystem, child);
  const record = await read(fileSystem, place);
  if (!record || record.target !== target.linkId) return [];
  const found: { path: string; id: string }[] = [];
  for (const { path, id } of record.images) {
    const there = join(folder, path);
    if ((await idOf(fileSystem, there)) === id) found.push({ path: there, id });
  }
  return found;
}

export async function forgetLeftovers(fileSystem: FileSystem, child: string): Promise<void> {
  const { record } = await placeOf(fileSystem, child);
  if ((await fileSystem.kind(record)) === 'file') await fileSystem.remove(record);
}
