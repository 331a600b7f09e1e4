/**
 * The system's files as a FileSystem.
 *
 * Not here: how a new file becomes visible only when complete (pending-file.ts).
 */
import * as fs from 'node:fs/promises';
import { dirname } from 'node:path';
import { VhdkitError } from '../base/errors.js';
import { nativeCalls } from '../native/native.js';
import type { FileIdentity, FileSystem, HeldLock, Holder, OpenOptions } from './file-system.js';
import { foreignHolder, heldBy } from './foreign-holder.js';
import { lockOwner, takeLock } from './lock-file.js';
import { NodeFile } from './node-file.js';
import { flushFolder, guarded, hiddenName, kindOf, openDescriptor } from './node-path.js';
import { createPending, openResumable } from './pending-file.js';
import type { RandomAccessFile } from './random-access-file.js';

/** Capacity of a block device: from the kernel call, or from sysfs where native calls are missing. */
async function deviceSize(path: string, fd: number, rdev: number): Promise<number> {
  const size = nativeCalls()?.blockDeviceSize(fd) ?? -1;
  if (size >= 0) return size;
  const major = (rdev >> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >> 12) & 0xfff00);
  const sectors = await guarded('read the size of', path, () =>
    fs.readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8'),
  );
  return Number.parseInt(sectors, 10) * 512;
}

async function open(path: string, options: OpenOptions = {}): Promise<RandomAccessFile> {
  const writable = options.writable ?? false;
  const stat = await guarded('open', path, () => fs.stat(path));
  if (!stat.isFile() && !stat.isBlockDevice()) {
    throw new VhdkitError('NOT_A_DISK', `${path} is not a file or a block device`, {
      operation: 'open',
      context: { path },
      hint: 'Name an image file or a block device.',
    });
  }
  const { O_RDONLY, O_RDWR, O_EXCL } = fs.constants;
  const exclusive = options.exclusive && stat.isBlockDevice() ? O_EXCL : 0;
  const fd = await guarded('open', path, () =>
    openDescriptor(path, (writable ? O_RDWR : O_RDONLY) | exclusive),
  );
  if (stat.isFile()) return new NodeFile(path, fd, 'file', writable);
  return new NodeFile(path, fd, 'device', writable, await deviceSize(path, fd, stat.rdev));
}

async function identity(path: string): Promise<FileIdentity | undefined> {
  const stat = await fs.stat(path, { bigint: true }).catch(() => undefined);
  return stat && { device: stat.dev, inode: stat.ino };
}

/** The file itself, whatever link led there: its lock is beside it, and so are its neighbours. */
async function realPath(path: string): Promise<string> {
  return guarded('open', path, () => fs.realpath(path));
}

/** First our own lock, then the look at others: of two that begin at once, one sees the other. */
async function lock(path: string): Promise<HeldLock> {
  const real = await realPath(path);
  const own = await takeLock(hiddenName(real, 'lock'), path);
  const other = foreignHolder(real, 'writes or forbids writing');
  if (!other) return own;
  await own.release();
  throw heldBy(path, other);
}

async function holder(path: string): Promise<Holder | undefined> {
  const real = await realPath(path);
  return (await lockOwner(hiddenName(real, 'lock'))) ?? foreignHolder(real, 'writes');
}

async function remove(path: string): Promise<void> {
  await guarded('remove', path, () => fs.rm(path));
  await flushFolder(dirname(path));
}

export const nodeFileSystem: FileSystem = {
  open,
  kind: kindOf,
  identity,
  realPath,
  list: (folder) => fs.readdir(folder).catch(() => []),
  createPending,
  openResumable,
  lock,
  holder,
  remove,
};
