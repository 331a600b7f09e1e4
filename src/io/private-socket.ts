/**
 * A Unix socket that only its owner may connect to, from its first moment on.
 *
 * Invariants: the socket is bound inside a folder that nobody else may enter, gets its mode there, and only then
 * its name; what was under the name before is replaced only if it is a socket. Only a socket that is still ours
 * is removed.
 *
 * Not here: listening, and whether somebody still answers at an old socket (nbd/).
 */
import * as fs from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fromSystemError, VhdkitError } from '../base/errors.js';

/** Bytes of a path in sockaddr_un, without its end. */
const MAX_PATH = 107;
const BIND_NAME = 's';

export interface PrivateSocket {
  /** Where to listen. */
  readonly bindPath: string;
  /** To be called once somebody listens: the socket gets its name. */
  publish(): Promise<void>;
  /** Takes the name, or what was made before it, away. */
  remove(): Promise<void>;
}

function unusable(path: string, message: string, hint: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', message, { operation: 'make socket', context: { path }, hint });
}

/**
 * The system cuts longer paths off without a word, and listens somewhere else.
 * @throws INVALID_ARGUMENT
 */
export function assertSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= MAX_PATH) return;
  throw unusable(
    path,
    `The path of the socket is too long: ${path}`,
    `Use one of at most ${MAX_PATH} bytes; a path relative to the working folder may be shorter.`,
  );
}

/** What is at a path: a socket, nothing, or something else. */
export async function socketAt(path: string): Promise<'socket' | 'absent' | 'other'> {
  const stat = await fs.lstat(path).catch(() => undefined);
  if (!stat) return 'absent';
  return stat.isSocket() ? 'socket' : 'other';
}

/** Takes a socket away that nobody listens at. */
export async function removeSocket(path: string): Promise<void> {
  await fs.rm(path, { force: true });
}

/**
 * @throws INVALID_ARGUMENT (the path is too long), ALREADY_EXISTS (something else is there), NOT_FOUND (the
 *   folder), PERMISSION_DENIED
 */
export async function privateSocket(path: string): Promise<PrivateSocket> {
  if ((await socketAt(path)) === 'other') {
    throw new VhdkitError('ALREADY_EXISTS', `${path} is there already, and is no socket`, {
      operation: 'make socket',
      context: { path },
      hint: 'Choose another name for the socket.',
    });
  }
  const folder = await fs.mkdtemp(join(dirname(path), '.vhdkit-')).catch((error: unknown) => {
    throw fromSystemError(error, `make the socket ${path}`, { path });
  });
  const bindPath = join(folder, BIND_NAME);
  if (Buffer.byteLength(bindPath) > MAX_PATH || Buffer.byteLength(path) > MAX_PATH) {
    await fs.rm(folder, { recursive: true, force: true });
    throw unusable(path, `The path of the socket is too long: ${path}`, 'Use one of at most 80 bytes.');
  }
  let inode: bigint | undefined;
  return {
    bindPath,
    async publish() {
      try {
        await fs.chmod(bindPath, 0o600);
        inode = (await fs.lstat(bindPath, { bigint: true })).ino;
        await fs.rename(bindPath, path);
        await fs.rm(folder, { recursive: true, force: true });
      } catch (error) {
        throw fromSystemError(error, `make the socket ${path}`, { path });
      }
    },
    async remove() {
      await fs.rm(folder, { recursive: true, force: true });
      const stat = await fs.lstat(path, { bigint: true }).catch(() => undefined);
      if (stat && stat.ino === inode) await fs.rm(path, { force: true });
    },
  };
}
