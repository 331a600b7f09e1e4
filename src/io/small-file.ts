/**
 * Small files that are read and replaced as a whole: records beside images.
 *
 * Invariant: whoever looks finds the old content or the new, whatever happens in between.
 */
import { isVhdkitError } from '../base/errors.js';
import type { FileSystem } from './file-system.js';

/** All of a file; undefined where it has more than `limit` bytes. @throws NOT_FOUND, PERMISSION_DENIED, IO_FAILED */
export async function readSmallFile(
  fileSystem: FileSystem,
  path: string,
  limit: number,
): Promise<Uint8Array | undefined> {
  const file = await fileSystem.open(path);
  try {
    if (file.size() > limit) return undefined;
    const bytes = new Uint8Array(file.size());
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}

/** Puts a file in the place of whatever has its name. Durable when it returns. @throws NO_SPACE, PERMISSION_DENIED, … */
export async function replaceFile(fileSystem: FileSystem, path: string, bytes: Uint8Array): Promise<void> {
  const pending = await fileSystem.createPending(path, { overwrite: true });
  try {
    if (bytes.length > 0) await pending.file.write(bytes, 0);
    await pending.publish();
  } catch (error) {
    await pending.discard();
    throw error;
  }
}

/** What is not there is no error. @throws PERMISSION_DENIED, IO_FAILED */
export async function removeIfThere(fileSystem: FileSystem, path: string): Promise<void> {
  await fileSystem.remove(path).catch((error: unknown) => {
    if (!isVhdkitError(error) || error.code !== 'NOT_FOUND') throw error;
  });
}
