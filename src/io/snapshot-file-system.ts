/**
 * Opens files as they are at this moment: each one as an extent-sharing clone that nobody else sees.
 *
 * Invariant: what is read through such a file never changes, whatever is written to the original later,
 * and no payload is copied. The clone has no name once it is open, so nothing is left behind.
 *
 * Several files of a chain are cloned one after the other; only the top one is ever written to by others.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { fromSystemError, systemCode, VhdkitError } from '../base/errors.js';
import type { FileSystem, OpenOptions } from './file-system.js';
import { NodeFile } from './node-file.js';
import { guarded, hiddenName, kindOf, openDescriptor } from './node-path.js';
import type { RandomAccessFile } from './random-access-file.js';

/** What the system answers where extents can't be shared. */
const CANNOT_SHARE = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'ENOSYS', 'EINVAL', 'ENOTTY']);

function unsupported(path: string, why: string, cause?: unknown): VhdkitError {
  return new VhdkitError('UNSUPPORTED', `${path} can't be converted as of one moment: ${why}`, {
    operation: 'snapshot source',
    context: { path },
    cause,
    hint: 'This needs a file on storage that shares extents (XFS, btrfs). Stop the virtual machine and convert without --snapshot-source.',
  });
}

async function openClone(path: string): Promise<RandomAccessFile> {
  if ((await kindOf(path)) === 'device') throw unsupported(path, 'it is a block device');
  const target = await guarded('open', path, () => fs.realpath(path));
  const clone = hiddenName(target, `snapshot-${randomBytes(6).toString('hex')}`);
  const { COPYFILE_EXCL, COPYFILE_FICLONE_FORCE, O_RDONLY } = fs.constants;
  try {
    await fs.copyFile(target, clone, COPYFILE_EXCL | COPYFILE_FICLONE_FORCE);
    const fd = await openDescriptor(clone, O_RDONLY);
    return new NodeFile(path, fd, 'file', false);
  } catch (error) {
    if (CANNOT_SHARE.has(systemCode(error) ?? ''))
      throw unsupported(path, 'its storage does not share extents', error);
    throw fromSystemError(error, `snapshot ${path}`, { path });
  } finally {
    await fs.rm(clone, { force: true });
  }
}

/**
 * A file system whose files are snapshots taken when they are opened for reading.
 * Its `open` throws UNSUPPORTED where storage can't share extents.
 */
export function snapshotFileSystem(base: FileSystem): FileSystem {
  return {
    ...base,
    open: (path: string, options?: OpenOptions) =>
      options?.writable ? base.open(path, options) : openClone(path),
  };
}
