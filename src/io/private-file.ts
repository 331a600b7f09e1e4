/**
 * Small files that are nobody else's business: mode 0600 from their first moment on.
 *
 * Invariant: the file is complete or not there; what was under the name before is replaced as a whole, or not
 * at all.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { dirname } from 'node:path';
import { fromSystemError, systemCode, VhdkitError } from '../base/errors.js';
import { flushFolder, hiddenName } from './node-path.js';

/**
 * Writes a file that only its owner may read.
 * @throws ALREADY_EXISTS unless `overwrite`, NOT_FOUND (the folder), PERMISSION_DENIED, NO_SPACE, IO_FAILED
 */
export async function writePrivateFile(path: string, bytes: Uint8Array, overwrite: boolean): Promise<void> {
  const aside = hiddenName(path, `${randomBytes(6).toString('hex')}.tmp`);
  try {
    const handle = await fs.open(aside, 'wx', 0o600);
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    // A link never replaces what is there; a rename does.
    if (overwrite) await fs.rename(aside, path);
    else await fs.link(aside, path);
  } catch (error) {
    if (systemCode(error) === 'EEXIST') throw fileExists(path);
    throw fromSystemError(error, `write ${path}`, { path });
  } finally {
    await fs.rm(aside, { force: true });
  }
  await flushFolder(dirname(path));
}

export function fileExists(path: string): VhdkitError {
  return new VhdkitError('ALREADY_EXISTS', `${path} is there already`, {
    operation: 'write file',
    context: { path },
    hint: 'Choose another name, or use --force to replace it.',
  });
}

/** Removes a file if it is there. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await fs.rm(path, { force: true });
  } catch (error) {
    throw fromSystemError(error, `remove ${path}`, { path });
  }
}
