/**
 * Marks that say: this folder's files are being changed without flushing each change.
 *
 * Unflushed changes survive a killed process, because the system has them, but not a system that stops at
 * once: then any part of them may be on the disk. A mark is durable before the first such change and goes
 * after everything was flushed. So a mark of an earlier start of the system means that the files can't be
 * trusted; without one they are whole.
 *
 * Only where the system tells its starts apart (Linux); elsewhere there are no marks, and `bootId` says so.
 */
import { constants, readFileSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { fromSystemError, systemCode } from '../base/errors.js';

const PREFIX = 'unsynced.';
let marks = 0;

/** What tells this start of the system from others; undefined where nothing does. */
export function bootId(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim() || undefined;
  } catch {
    return undefined;
  }
}

export type FolderState =
  /** Everything was flushed. */
  | 'whole'
  /** A process of this start of the system is changing it, or ended without flushing. */
  | 'unsynced'
  /** The system stopped while it was being changed. */
  | 'torn';

/** @throws PERMISSION_DENIED, IO_FAILED */
export async function folderState(folder: string, boot = bootId()): Promise<FolderState> {
  let state: FolderState = 'whole';
  for (const name of await markNames(folder)) {
    const text = await fs.readFile(join(folder, name), 'latin1').catch(ignoreAbsent);
    if (text === undefined) continue;
    // An empty one was never made durable: nothing was changed under it.
    if (text !== '' && text !== boot) return 'torn';
    state = 'unsynced';
  }
  return state;
}

async function markNames(folder: string): Promise<string[]> {
  try {
    return (await fs.readdir(folder)).filter((name) => name.startsWith(PREFIX));
  } catch (error) {
    throw fromSystemError(error, 'read folder', { path: folder });
  }
}

function ignoreAbsent(error: unknown): undefined {
  if (systemCode(error) !== 'ENOENT') throw error;
}

/** Makes this process's mark, durably, and returns its path. @throws PERMISSION_DENIED, NO_SPACE, IO_FAILED */
export async function makeMark(folder: string, boot: string): Promise<string> {
  marks += 1;
  const path = join(folder, `${PREFIX}${process.pid}.${marks}`);
  try {
    const file = await fs.open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
    try {
      await file.writeFile(boot, 'latin1');
      await file.sync();
    } finally {
      await file.close();
    }
    const directory = await fs.open(folder, 'r');
    await directory.sync().finally(() => directory.close());
  } catch (error) {
    await fs.rm(path, { force: true }).catch(() => undefined);
    throw fromSystemError(error, 'write file', { path });
  }
  return path;
}

/** Takes a mark away. What it stood for must be flushed. */
export async function removeMark(path: string): Promise<void> {
  await fs.rm(path, { force: true });
}

/** Marks of processes that ended without flushing. Flush, then remove them. */
export async function abandonedMarks(folder: string): Promise<string[]> {
  const names = await markNames(folder);
  return names.filter((name) => !isAlive(Number(name.split('.')[1]))).map((name) => join(folder, name));
}

/** Removes files by name, and every mark, after the system stopped while they were being changed. */
export async function discardTorn(folder: string, files: readonly string[]): Promise<void> {
  for (const name of [...files, ...(await markNames(folder))])
    await fs.rm(join(folder, name), { force: true });
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
}
