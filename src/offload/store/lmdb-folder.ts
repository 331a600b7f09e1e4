/**
 * The folder of an LMDB token store, before LMDB looks into it.
 *
 * Invariant: when it is prepared, it and its files are its owner's only, and what is in them was flushed or
 * written since the system started.
 *
 * Deliberately not here: opening (lmdb-store.ts), and what the data file says of itself (lmdb-layout.ts).
 */
import { isVhdkitError } from '../../base/errors.js';
import type { HeldLock } from '../../io/file-system.js';
import { takeLock } from '../../io/lock-file.js';
import { makePrivateFile, makePrivateFolder, readStart, tryWriting } from '../../io/private-folder.js';
import { discardTorn, folderState } from '../../io/unsynced-mark.js';
import { translate } from './lmdb-errors.js';
import { assertWhole, MAX_PAGE_BYTES } from './lmdb-layout.js';

export const DATA = 'data.mdb';
const LOCKS = 'lock.mdb';

/** Makes folder and files as private as they have to be, and looks whether what is there can be trusted. */
export async function prepareFolder(folder: string, boot: string | undefined): Promise<void> {
  try {
    await makePrivateFolder(folder);
    const found = await readStart(`${folder}/${DATA}`, 2 * MAX_PAGE_BYTES);
    // With room for its pages an existing store can be used, and tokens revoked, on a full file system.
    await tryWriting(folder).catch((error: unknown) => {
      if (!(isVhdkitError(error) && error.code === 'NO_SPACE' && found && found.size > 0)) throw error;
    });
    if (boot && (await folderState(folder, boot)) === 'torn') await beginAnew(folder, boot);
    else if (found && found.size > 0) assertWhole(folder, DATA, found.start, found.size);
    await makePrivateFile(`${folder}/${DATA}`);
    await makePrivateFile(`${folder}/${LOCKS}`);
  } catch (error) {
    throw translate(error, folder);
  }
}

/** After the system stopped while the store was in use. One process does it, the others find it done. */
async function beginAnew(folder: string, boot: string): Promise<void> {
  const lock = await recoveryLock(folder);
  try {
    if ((await folderState(folder, boot)) === 'torn') await discardTorn(folder, [DATA, LOCKS]);
  } finally {
    await lock.release();
  }
}

/** Others that begin anew need a moment only. */
async function recoveryLock(folder: string): Promise<HeldLock> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await takeLock(`${folder}/recover.lock`, folder);
    } catch (error) {
      if (!(isVhdkitError(error) && error.code === 'IN_USE') || attempt === 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
