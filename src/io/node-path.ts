/**
 * What the system's files and new files share: opening descriptors, looking at paths, mapping failures.
 */
import { createHash } from 'node:crypto';
import { open as openCallback, realpathSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fromSystemError, systemCode } from '../base/errors.js';

/** Runs a system call; failures become VhdkitErrors that name the path. */
export async function guarded<T>(operation: string, path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw fromSystemError(error, `${operation} ${path}`, { path });
  }
}

/** Opens a plain descriptor: a FileHandle would be closed when it is collected. */
export async function openDescriptor(path: string, flags: number, mode?: number): Promise<number> {
  return new Promise((resolve, reject) => {
    openCallback(path, flags, mode ?? 0o666, (error, fd) => (error ? reject(error) : resolve(fd)));
  });
}

/** What is at a path. */
export async function kindOf(path: string): Promise<'file' | 'device' | 'other' | 'absent'> {
  try {
    const stat = await fs.stat(path);
    if (stat.isFile()) return 'file';
    return stat.isBlockDevice() ? 'device' : 'other';
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return 'absent';
    throw fromSystemError(error, `look at ${path}`, { path });
  }
}

/** A folder's path without links, or the path itself where no such folder is. */
export function realFolder(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return folder;
  }
}

/** Longest base name kept in hidden names; file names end at 255 bytes. */
const MAX_BASE_BYTES = 200;

/** A hidden name beside a file, for what belongs to it. */
export function hiddenName(target: string, suffix: string): string {
  const base = basename(target);
  const short =
    Buffer.byteLength(base) <= MAX_BASE_BYTES ? base : createHash('sha256').update(base).digest('hex');
  return join(dirname(target), `.${short}.vhdkit-${suffix}`);
}

/** Makes what happened to names in a folder durable, where the system can. */
export async function flushFolder(folder: string): Promise<void> {
  // Some systems can't open or flush folders; the rename itself is done by then.
  const handle = await fs.open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
