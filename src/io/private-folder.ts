/**
 * Folders that only their owner may use, for what is kept between runs.
 *
 * Invariant: a folder made here has mode 0700 and a file made here 0600 from its first moment; an existing
 * folder that others may write to is refused, because they could put their own files in the place of ours.
 *
 * Deliberately not here: what lies in the folder.
 */
import { constants } from 'node:fs';
import * as fs from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fromSystemError, systemCode, VhdkitError } from '../base/errors.js';

const OTHERS_WRITE = 0o022;
const PROBE_BYTES = 64 * 1024;

/**
 * Where this user's state is kept: `$XDG_STATE_HOME/vhdkit`, on Windows `%LOCALAPPDATA%\vhdkit`.
 * The folder need not be there.
 */
export function userStateFolder(): string {
  const { LOCALAPPDATA, XDG_STATE_HOME } = process.env;
  if (process.platform === 'win32')
    return join(LOCALAPPDATA || join(homedir(), 'AppData', 'Local'), 'vhdkit');
  // The specification has relative paths ignored.
  const state = XDG_STATE_HOME?.startsWith('/') ? XDG_STATE_HOME : join(homedir(), '.local', 'state');
  return join(state, 'vhdkit');
}

/**
 * Makes the folder, with those above it, if it is not there.
 * @throws PERMISSION_DENIED (`context.reason` is `not-private` when others may write to it), NO_SPACE, NOT_FOUND
 *   (it or something above it is no folder), IO_FAILED
 */
export async function makePrivateFolder(folder: string): Promise<void> {
  let mode: number;
  try {
    await makeFolders(folder);
    const status = await fs.stat(folder);
    mode = status.mode;
    if (!status.isDirectory()) throw Object.assign(new Error('not a directory'), { code: 'ENOTDIR' });
    if (process.platform === 'win32' || (mode & OTHERS_WRITE) === 0) return;
  } catch (error) {
    throw fromSystemError(error, 'make folder', { path: folder });
  }
  throw new VhdkitError('PERMISSION_DENIED', `Others may write to ${folder}`, {
    operation: 'use folder',
    context: { path: folder, reason: 'not-private' },
    hint: `Take that permission away: chmod go-w ${folder}`,
  });
}

/** Step by step: the recursive call of the system's library hides that a file system is read-only. */
async function makeFolders(folder: string): Promise<void> {
  try {
    await fs.mkdir(folder, { mode: 0o700 });
  } catch (error) {
    const above = dirname(folder);
    const code = systemCode(error);
    if (code === 'EEXIST' || (code === 'EROFS' && (await exists(folder)))) return;
    if (code !== 'ENOENT' || above === folder) throw error;
    await makeFolders(above);
    await makeFolders(folder);
  }
}

async function exists(path: string): Promise<boolean> {
  return fs.stat(path).then(
    () => true,
    () => false,
  );
}

/** Removes a folder if it is there and nothing is in it. @throws PERMISSION_DENIED, IO_FAILED */
export async function removeEmptyFolder(folder: string): Promise<void> {
  await fs.rmdir(folder).catch((error: unknown) => {
    if (['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(systemCode(error) ?? '')) return;
    throw fromSystemError(error, 'remove folder', { path: folder });
  });
}

/**
 * Makes an empty file of mode 0600 unless there is one. One that is there is not opened: closing it again would take
 * all the locks that this process has in it (POSIX).
 * @throws PERMISSION_DENIED (one that may not be read and written), NO_SPACE, IO_FAILED
 */
export async function makePrivateFile(path: string): Promise<void> {
  try {
    const file = await fs.open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    await file.close();
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw fromSystemError(error, 'open file', { path });
    await fs.access(path, constants.R_OK | constants.W_OK).catch((reason: unknown) => {
      throw fromSystemError(reason, 'open file', { path });
    });
  }
}

/**
 * Tries that the folder takes a file with something in it, and removes it again.
 * @throws PERMISSION_DENIED, NO_SPACE, IO_FAILED
 */
export async function tryWriting(folder: string): Promise<void> {
  const path = join(folder, `.probe-${process.pid}`);
  try {
    await fs.writeFile(path, new Uint8Array(PROBE_BYTES), { mode: 0o600 });
  } catch (error) {
    throw fromSystemError(error, 'write file', { path: folder });
  } finally {
    await fs.rm(path, { force: true }).catch(() => undefined);
  }
}

/** The first bytes of a file and its size; undefined when there is no file. @throws PERMISSION_DENIED, IO_FAILED */
export async function readStart(
  path: string,
  length: number,
): Promise<{ start: Uint8Array; size: number } | undefined> {
  let file: fs.FileHandle | undefined;
  try {
    file = await fs.open(path, 'r');
    const { bytesRead, buffer } = await file.read(new Uint8Array(length), 0, length, 0);
    // Asked after reading: a file that grows meanwhile is never taken for too short.
    return { start: buffer.subarray(0, bytesRead), size: (await file.stat()).size };
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw fromSystemError(error, 'read file', { path });
  } finally {
    await file?.close();
  }
}

/** Makes a file's content durable, whoever wrote it. @throws NOT_FOUND, IO_FAILED */
export async function flushFile(path: string): Promise<void> {
  try {
    const file = await fs.open(path, 'r+');
    try {
      await file.datasync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fromSystemError(error, 'flush file', { path });
  }
}

/** The NATS credentials file that the environment names in NATS_CREDS, if any. @throws NOT_FOUND, PERMISSION_DENIED */
export async function credentialsFile(): Promise<Uint8Array | undefined> {
  const path = process.env.NATS_CREDS;
  if (!path) return undefined;
  try {
    return await fs.readFile(path);
  } catch (error) {
    throw fromSystemError(error, 'read credentials', { path });
  }
}
