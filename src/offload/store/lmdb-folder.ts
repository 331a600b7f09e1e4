/**
 * The folder of an LMDB token store, before LMDB looks into it.
 *
 * Invariant: when it is prepared, it and its files are its owner's only, and what is in them was flushed or
 * written since the system started.
 *
 * Deliberately not here: opening (lmdb-store.ts), and what the data file says of itself (lmdb-layout.ts).
 */
import { isVhdkitError } from '../../base/errors.js';
import { systemTimer } from '../../base/timer.js';
import type { HeldLock } from '../../io/file-system.js';
import { takeLock } from '../../io/lock-file.js';
import { makePrivateFile, makePrivateFolder, readStart, tryWriting } from '../../io/private-folder.js';
import { discardTorn, folderState } from '../../io/unsynced-mark.js';
import { translate } from './lmdb-errors.js';
import { assertWhole, MAX_PAGE_BYTES } from './lmdb-layout.js';

export const DATA = 'data.mdb';
const LOCKS = 'lock.mdb';

/** How often a file that seems damaged is looked at, and how many milliseconds lie between. */
const LOOKS = 10;
const LOOK_AGAIN = 20;

/** Makes folder and files as private as they have to be, and looks whether what is there can be trusted. */
export async function prepareFolder(folder: string, boot: string | undefined): Promise<void> {
  try {
    await makePrivateFolder(folder);
    const found = await readData(folder);
    // With room for its pages an existing store can be used, and tokens revoked, on a full file system.
    await tryWriting(folder).catch((error: unknown) => {
      if (!(isVhdkitError(error) && error.code === 'NO_SPACE' && found && found.size > 0)) throw error;
    });
    if (boot && (await folderState(folder, boot)) === 'torn') await beginAnew(folder, boot);
    else if (found) await assertWholeAtLast(folder, found);
    await makePrivateFile(`${folder}/${DATA}`);
    await makePrivateFile(`${folder}/${LOCKS}`);
  } catch (error) {
    throw translate(error, folder);
  }
}

type Start = Exclude<Awaited<ReturnType<typeof readStart>>, undefined>;

function readData(folder: string): Promise<Start | undefined> {
  return readStart(`${folder}/${DATA}`, 2 * MAX_PAGE_BYTES);
}

/**
 * What another process makes at this moment may look damaged: its meta pages are not there yet, or only one. So
 * nothing is believed to be damaged that is whole a moment later.
 */
async function assertWholeAtLast(folder: string, found: Start): Promise<void> {
  let seen: Start | undefined = found;
  for (let attempt = 1; seen && seen.size > 0; attempt += 1) {
    try {
      assertWhole(folder, DATA, seen.start, seen.size);
      return;
    } catch (error) {
      if (attempt === LOOKS) throw error;
    }
    await systemTimer.sleep(LOOK_AGAIN);
    seen = await readData(folder);
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
      await systemTimer.sleep(100);
    }
  }
}
