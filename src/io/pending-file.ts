/**
 * New files that appear under their name only when they are complete.
 *
 * Invariants: the file lives beside its target under a hidden name and takes the final name by an atomic
 * link or rename after its data is durable; the folder is flushed after that. A resumable file has a fixed
 * hidden name, a journal that is replaced atomically, and a lock: one process at a time. A file that takes
 * the place of another one may take over its owner, mode and time.
 */
import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import * as fs from 'node:fs/promises';
import { dirname } from 'node:path';
import { fromSystemError, systemCode, VhdkitError } from '../base/errors.js';
import type { PendingFile, ResumableFile } from './file-system.js';
import { takeLock } from './lock-file.js';
import { NodeFile } from './node-file.js';
import { flushFolder, guarded, hiddenName, kindOf, openDescriptor } from './node-path.js';

function alreadyExists(path: string): VhdkitError {
  return new VhdkitError('ALREADY_EXISTS', `${path} exists already`, {
    operation: 'create',
    context: { path },
    hint: 'Choose another name, or use --force to replace it.',
  });
}

/**
 * Where the new file will be. Links are followed, so that replacing a link replaces what it points to.
 * @throws ALREADY_EXISTS, NOT_A_DISK
 */
async function targetOf(path: string, overwrite: boolean): Promise<string> {
  const found = await kindOf(path);
  if (found === 'other' || found === 'device') {
    throw new VhdkitError('NOT_A_DISK', `${path} is not a regular file`, {
      operation: 'create',
      context: { path },
    });
  }
  if (found === 'file' && !overwrite) throw alreadyExists(path);
  return fs.realpath(path).catch(() => path);
}

/** Gives a complete file its name. */
async function publishAs(
  file: NodeFile,
  target: string,
  path: string,
  overwrite: boolean,
  original?: Stats,
): Promise<void> {
  try {
    await file.flush();
    await file.close();
    // Last: writing would set it anew.
    if (original) await fs.utimes(file.path, original.atimeMs / 1000, original.mtimeMs / 1000);
    // Without leave to overwrite, a file that appeared meanwhile must survive: link refuses, rename does not.
    if (overwrite) await fs.rename(file.path, target);
    else await linkNew(file.path, target);
  } catch (error) {
    await file.close().catch(() => undefined);
    await fs.rm(file.path, { force: true });
    if (systemCode(error) === 'EEXIST') throw alreadyExists(path);
    throw fromSystemError(error, `create ${path}`, { path });
  }
  await flushFolder(dirname(target));
}

async function linkNew(temporary: string, target: string): Promise<void> {
  try {
    await fs.link(temporary, target);
  } catch (error) {
    if (systemCode(error) === 'EEXIST') throw error;
    // No hard links on this file system (FAT, some network mounts).
    await fs.rename(temporary, target);
    return;
  }
  await fs.rm(temporary, { force: true });
}

async function openNew(hidden: string, path: string, flags: number): Promise<NodeFile> {
  const fd = await guarded('create', path, () => openDescriptor(hidden, flags));
  return new NodeFile(hidden, fd, 'file', true);
}

/** Gives a new file the owner and the mode of the one that it will replace. */
async function takeAfter(hidden: string, target: string, path: string): Promise<Stats> {
  return guarded('create', path, async () => {
    const original = await fs.stat(target);
    if (original.nlink > 1) {
      throw new VhdkitError('UNSUPPORTED', `${path} has ${original.nlink} names (hard links)`, {
        operation: 'create',
        context: { path },
        hint: 'A new file would take the place of one of them only: remove the others first.',
      });
    }
    // Only root gives files away; whoever may write the old one may own the new one.
    await fs.chown(hidden, original.uid, original.gid).catch(() => undefined);
    await fs.chmod(hidden, original.mode & 0o7777);
    return original;
  });
}

/** See FileSystem.createPending. */
export async function createPending(
  path: string,
  options: { overwrite?: boolean; like?: boolean } = {},
): Promise<PendingFile> {
  const overwrite = options.overwrite ?? false;
  const target = await targetOf(path, overwrite);
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  const hidden = hiddenName(target, `${randomBytes(6).toString('hex')}.tmp`);
  const file = await openNew(hidden, path, O_RDWR | O_CREAT | O_EXCL);
  let original: Stats | undefined;
  try {
    if (options.like) original = await takeAfter(hidden, target, path);
  } catch (error) {
    await file.close();
    await fs.rm(hidden, { force: true });
    throw error;
  }
  let finished = false;
  return {
    file,
    async publish() {
      finished = true;
      await publishAs(file, target, path, overwrite, original);
    },
    async discard() {
      if (finished) return;
      finished = true;
      await file.close().catch(() => undefined);
      await fs.rm(hidden, { force: true });
    },
  };
}

/** See FileSystem.openResumable. */
export async function openResumable(
  path: string,
  options: { overwrite?: boolean; resume?: boolean } = {},
): Promise<ResumableFile> {
  const overwrite = options.overwrite ?? false;
  const target = await targetOf(path, overwrite);
  const hidden = hiddenName(target, 'partial');
  const journalPath = hiddenName(target, 'journal');
  const lock = await takeLock(hiddenName(target, 'lock'), path);
  const removeJournal = async (): Promise<void> => {
    await fs.rm(journalPath, { force: true });
    await fs.rm(newVersionOf(journalPath), { force: true });
  };
  const removeAll = async (): Promise<void> => {
    // The journal first: a partial file without one is never taken up.
    await removeJournal();
    await fs.rm(hidden, { force: true });
  };
  const { O_RDWR, O_CREAT } = fs.constants;
  try {
    let journal: string | undefined;
    if (options.resume && (await kindOf(hidden)) === 'file' && !(await isPublished(hidden, target))) {
      journal = await fs.readFile(journalPath, 'utf8').catch(() => undefined);
    }
    if (journal === undefined) await removeAll();
    const file = await openNew(hidden, path, O_RDWR | O_CREAT);
    let finished = false;
    const finish = async (act: () => Promise<void>): Promise<void> => {
      if (finished) return;
      finished = true;
      try {
        await act();
      } finally {
        await lock.release();
      }
    };
    return {
      file,
      journal,
      async restart() {
        await removeJournal();
        await file.truncate(0);
      },
      record: (text) => replaceFile(journalPath, text),
      keep: () => finish(() => file.close()),
      publish: () =>
        finish(async () => {
          await publishAs(file, target, path, overwrite);
          await removeJournal();
        }),
      discard: () =>
        finish(async () => {
          await file.close().catch(() => undefined);
          await removeAll();
        }),
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/**
 * Did a run get as far as giving the file its name, and no further? Then both names lead to one file, which is
 * complete: nobody may go on writing it, and renaming it to what it is called already would do nothing.
 */
async function isPublished(hidden: string, target: string): Promise<boolean> {
  const [unfinished, named] = await Promise.all(
    [hidden, target].map((name) => fs.stat(name, { bigint: true }).catch(() => undefined)),
  );
  return unfinished !== undefined && named?.ino === unfinished.ino && named.dev === unfinished.dev;
}

function newVersionOf(path: string): string {
  return `${path}.new`;
}

/** Replaces a small file so that at every moment the old or the new content is there, whole. */
async function replaceFile(path: string, text: string): Promise<void> {
  const aside = newVersionOf(path);
  await guarded('write', path, async () => {
    const handle = await fs.open(aside, 'w');
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await fs.rename(aside, path);
  });
  await flushFolder(dirname(path));
}
