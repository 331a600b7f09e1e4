/**
 * The system's files: opening, and new files that appear only when complete.
 *
 * Invariant: a pending file lives beside its target under a hidden temporary name and takes the final
 * name by an atomic rename after its data is durable; the folder is flushed after the rename.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fromSystemError, systemCode, VhdkitError } from '../base/errors.js';
import { nativeCalls } from '../native/native.js';
import type { FileIdentity, FileSystem, OpenOptions, PendingFile } from './file-system.js';
import { NodeFile } from './node-file.js';
import type { RandomAccessFile } from './random-access-file.js';

async function guarded<T>(operation: string, path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw fromSystemError(error, `${operation} ${path}`, { path });
  }
}

/** Opens a plain descriptor: FileHandle would close it when collected. */
async function openDescriptor(path: string, flags: number, mode?: number): Promise<number> {
  const { open } = await import('node:fs');
  return new Promise((resolve, reject) => {
    open(path, flags, mode ?? 0o666, (error, fd) => (error ? reject(error) : resolve(fd)));
  });
}

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

async function kind(path: string): Promise<'file' | 'device' | 'other' | 'absent'> {
  try {
    const stat = await fs.stat(path);
    if (stat.isFile()) return 'file';
    return stat.isBlockDevice() ? 'device' : 'other';
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return 'absent';
    throw fromSystemError(error, `look at ${path}`, { path });
  }
}

async function identity(path: string): Promise<FileIdentity | undefined> {
  const stat = await fs.stat(path, { bigint: true }).catch(() => undefined);
  return stat && { device: stat.dev, inode: stat.ino };
}

async function flushFolder(folder: string): Promise<void> {
  // Some systems can't open or flush folders; the rename itself is done by then.
  const handle = await fs.open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/** Follows links, so that `--force` on a link replaces what it points to and not the link. */
async function finalPath(path: string): Promise<string> {
  return fs.realpath(path).catch(() => path);
}

function alreadyExists(path: string): VhdkitError {
  return new VhdkitError('ALREADY_EXISTS', `${path} exists already`, {
    operation: 'create',
    context: { path },
    hint: 'Choose another name, or use --force to replace it.',
  });
}

async function createPending(path: string, options: { overwrite?: boolean } = {}): Promise<PendingFile> {
  const found = await kind(path);
  if (found === 'other' || found === 'device') {
    throw new VhdkitError('NOT_A_DISK', `${path} is not a regular file`, {
      operation: 'create',
      context: { path },
    });
  }
  if (found === 'file' && !options.overwrite) throw alreadyExists(path);
  const target = await finalPath(path);
  const temporary = join(
    dirname(target),
    `.${basename(target)}.vhdkit-${randomBytes(6).toString('hex')}.tmp`,
  );
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  const fd = await guarded('create', path, () => openDescriptor(temporary, O_RDWR | O_CREAT | O_EXCL));
  const file = new NodeFile(temporary, fd, 'file', true);
  let finished = false;
  return {
    file,
    async publish() {
      finished = true;
      try {
        await file.flush();
        await file.close();
        // Without leave to overwrite, a file that appeared meanwhile must survive: link refuses, rename does not.
        if (options.overwrite) await fs.rename(temporary, target);
        else await publishNew(temporary, target);
      } catch (error) {
        await file.close().catch(() => undefined);
        await fs.rm(temporary, { force: true });
        throw systemCode(error) === 'EEXIST'
          ? alreadyExists(path)
          : fromSystemError(error, `create ${path}`, { path });
      }
      await flushFolder(dirname(target));
    },
    async discard() {
      if (finished) return;
      finished = true;
      await file.close().catch(() => undefined);
      await fs.rm(temporary, { force: true });
    },
  };
}

async function publishNew(temporary: string, target: string): Promise<void> {
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

export const nodeFileSystem: FileSystem = {
  open,
  kind,
  identity,
  list: (folder) => fs.readdir(folder).catch(() => []),
  createPending,
};
