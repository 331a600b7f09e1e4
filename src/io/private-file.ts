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
import type { PendingFile } from './file-system.js';
import { NodeFile } from './node-file.js';
import { flushFolder, guarded, hiddenName, openDescriptor } from './node-path.js';

/**
 * Writes a file that only its owner may read.
 * @throws ALREADY_EXISTS unless `overwrite`, NOT_FOUND (the folder), PERMISSION_DENIED, NO_SPACE, IO_FAILED
 */
export async function writePrivateFile(path: string, bytes: Uint8Array, overwrite: boolean): Promise<void> {
  const pending = await preparePrivateFile(path, bytes, overwrite);
  await pending.publish();
}

/** The same, but for its name, which it gets when it is published: what there is no room for is noticed before. */
export async function preparePrivateFile(
  path: string,
  bytes: Uint8Array,
  overwrite: boolean,
): Promise<PendingFile> {
  const pending = await createPrivateFile(path, overwrite);
  try {
    await pending.file.write(bytes, 0);
    return pending;
  } catch (error) {
    await pending.discard();
    throw error;
  }
}

/**
 * The same for a file that is too long to be made in memory. Nothing is under its name until it is published.
 * @throws NOT_FOUND (the folder), PERMISSION_DENIED, NO_SPACE, IO_FAILED; publishing, ALREADY_EXISTS unless `overwrite`
 */
export async function createPrivateFile(path: string, overwrite: boolean): Promise<PendingFile> {
  const aside = hiddenName(path, `${randomBytes(6).toString('hex')}.tmp`);
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  const file = await guarded('create', path, async () => {
    const fd = await openDescriptor(aside, O_RDWR | O_CREAT | O_EXCL, 0o600);
    // Messages name what is being made, not what it is called until it is complete.
    return new NodeFile(path, fd, 'file', true);
  });
  let open = true;
  const discard = async (): Promise<void> => {
    if (!open) return;
    open = false;
    await file.close();
    await fs.rm(aside, { force: true });
  };
  return {
    file,
    discard,
    async publish() {
      try {
        await file.flush();
        // A link never replaces what is there; a rename does.
        if (overwrite) await fs.rename(aside, path);
        else await fs.link(aside, path);
      } catch (error) {
        if (systemCode(error) === 'EEXIST') throw fileExists(path);
        throw fromSystemError(error, `write ${path}`, { path });
      } finally {
        await discard();
      }
      await flushFolder(dirname(path));
    },
  };
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

/** The same for good: also a power failure does not bring it back. */
export async function removeDurably(path: string): Promise<void> {
  await removeIfThere(path);
  await flushFolder(dirname(path));
}
