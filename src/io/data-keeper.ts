/**
 * Keeps the data of files as it is at a moment: clones that share extents, in a hidden folder beside the data.
 *
 * Invariants: the caller decides on a place's name and records it before anything is made there, so that
 * nothing is ever kept that nobody knows of. A clone is made by one system call, so it is of one moment. Who
 * may read the original may read the clone, and nobody else; nobody may write it. What several need is one
 * file with several names: storage is free again when the last name is removed.
 */
import { fchmod, fchown, fstat } from 'node:fs';
import * as fs from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { fromSystemError, systemCode, VhdkitError } from '../base/errors.js';
import { errnoError, nativeCalls } from '../native/native.js';
import { NodeFile } from './node-file.js';
import { flushFolder, guarded, openDescriptor } from './node-path.js';
import type { FileFingerprint, RandomAccessFile } from './random-access-file.js';

/** Where kept data lies, below the folder of the data. */
export const KEPT_FOLDER = '.vhdkit-kept';

export interface KeptFile {
  /** Of the clone. Its `ctime` changes with every name that is added or removed. */
  fingerprint: FileFingerprint;
  /** Storage that the clone shares now, and that it alone may hold once the original was overwritten. */
  bytes: number;
}

export interface DataKeeper {
  /** The path under which data of a file is kept; nothing is made yet. */
  placeFor(source: string, name: string): string;
  /**
   * Clones the file to a path from `placeFor`, durably.
   * @throws ALREADY_EXISTS, UNSUPPORTED with the reason where storage can't share extents, PERMISSION_DENIED, NO_SPACE,
   *   IO_FAILED
   */
  keep(file: RandomAccessFile, path: string): Promise<KeptFile>;
  /** Gives kept data a second name, durably. @throws as `keep` */
  share(from: string, to: string): Promise<void>;
  /** Removes a name, and the hidden folder with the last one. What is not there is no error. */
  release(path: string): Promise<void>;
}

function cannotKeep(file: RandomAccessFile, why: string, cause?: unknown): VhdkitError {
  return new VhdkitError('UNSUPPORTED', `The data of ${file.path} can't be kept as it is: ${why}`, {
    operation: 'keep data',
    context: { path: file.path, reason: why },
    ...(cause === undefined ? {} : { cause }),
    hint: 'Persistent tokens need a file on storage that shares extents (XFS, btrfs). Use --mode change-vulnerable: such a token is refused once the file changes.',
  });
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await fs.mkdir(folder, { mode: 0o755 });
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
    const stat = await fs.lstat(folder);
    if (!stat.isDirectory()) throw error;
  }
}

/** Each that fails means that somebody else's last token ended at that very moment. */
const FOLDER_ATTEMPTS = 50;

/** Opens a new file in the hidden folder, which somebody else may be removing at this moment. */
async function openNew(path: string): Promise<number> {
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  for (let attempt = 1; ; attempt += 1) {
    try {
      await makeFolder(dirname(path));
      return await openDescriptor(path, O_RDWR | O_CREAT | O_EXCL, 0o600);
    } catch (error) {
      // Also while it is looked at: `mkdir` found it, and then it was gone.
      if (systemCode(error) !== 'ENOENT' || attempt === FOLDER_ATTEMPTS) throw error;
    }
  }
}

/** The system's answers that mean "not here", as opposed to "it failed". */
const NOT_HERE = new Set(['EOPNOTSUPP', 'ENOTSUP', 'EXDEV', 'ENOTTY', 'EINVAL', 'ENOSYS']);

/** Answers the original's descriptor. */
async function clone(file: RandomAccessFile, copy: NodeFile): Promise<number> {
  const native = nativeCalls();
  if (!native) throw cannotKeep(file, 'there are no native calls');
  if (file.kind !== 'file' || file.fd === undefined) throw cannotKeep(file, 'it is not a regular file');
  const size = file.size();
  const errno = size === 0 ? 0 : await native.cloneRange(file.fd, 0, size, copy.fd, 0);
  if (errno === 0) return file.fd;
  const cause = errnoError(errno, 'FICLONERANGE');
  if (NOT_HERE.has(systemCode(cause) ?? ''))
    throw cannotKeep(file, 'its storage does not share extents', cause);
  throw fromSystemError(cause, `keep the data of ${file.path}`, { path: file.path });
}

/**
 * Gives the clone the original's readers. Only root gives files away; others keep theirs to themselves. By
 * descriptors: whoever may write to the folder could put something else under the names.
 */
async function takeReaders(original: number, copy: number): Promise<void> {
  const [stat, own] = [await promisify(fstat)(original), await promisify(fstat)(copy)];
  const same = own.uid === stat.uid && own.gid === stat.gid;
  const given =
    same ||
    (await promisify(fchown)(copy, stat.uid, stat.gid).then(
      () => true,
      () => false,
    ));
  await promisify(fchmod)(copy, given ? stat.mode & 0o444 : 0o400);
}

async function keep(file: RandomAccessFile, path: string): Promise<KeptFile> {
  const fd = await guarded('keep data in', path, () => openNew(path));
  const copy = new NodeFile(path, fd, 'file', true);
  try {
    await takeReaders(await clone(file, copy), copy.fd);
    await copy.flush();
    const fingerprint = copy.fingerprint();
    if (!fingerprint) throw cannotKeep(file, 'it has no identity');
    const bytes = await copy.allocatedBytes();
    await copy.close();
    await flushFolder(dirname(path));
    return { fingerprint, bytes };
  } catch (error) {
    await copy.close().catch(() => undefined);
    await release(path);
    throw fromSystemError(error, `keep the data of ${file.path}`, { path: file.path });
  }
}

async function share(from: string, to: string): Promise<void> {
  await guarded('keep data in', to, () => fs.link(from, to));
  await flushFolder(dirname(to));
}

async function release(path: string): Promise<void> {
  const folder = dirname(path);
  // Only ever our own: a record that names anything else is not obeyed.
  if (basename(folder) !== KEPT_FOLDER) return;
  await guarded('remove', path, () => fs.rm(path, { force: true }));
  // Fails while there are others.
  await fs.rmdir(folder).catch(() => undefined);
}

export const nodeDataKeeper: DataKeeper = {
  placeFor: (source, name) => join(dirname(source), KEPT_FOLDER, name),
  keep,
  share,
  release,
};
