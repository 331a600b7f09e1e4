/**
 * File systems and block devices for tests, out of files and loop devices.
 *
 * Invariant: every image file, mount point and loop device belongs to the run's folder, and `releaseAll`
 * gives back whatever is still in use there, whichever process made it and however it ended.
 */
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { mustSync } from './run.js';
import { makeTempFolder, removeFolder } from './tmp.js';
import { findTool } from './tools.js';

export type FileSystemKind = 'xfs' | 'btrfs' | 'ext4' | 'tmpfs';

export interface MountedFileSystem {
  readonly kind: FileSystemKind;
  /** An empty folder of the file system. */
  readonly path: string;
  unmount(): void;
}

export interface LoopDevice {
  /** `/dev/loopN`. */
  readonly path: string;
  detach(): void;
}

const MKFS: Record<Exclude<FileSystemKind, 'tmpfs'>, readonly string[]> = {
  xfs: ['mkfs.xfs', '-q', '-f', '-m', 'reflink=1'],
  btrfs: ['mkfs.btrfs', '-q', '-f'],
  ext4: ['mke2fs', '-q', '-F', '-t', 'ext4'],
};

/** mkfs.xfs refuses less than 300 MiB. */
const SMALLEST_MIB = 320;

export const isRoot = process.getuid?.() === 0;

/** Two processes may find the same free loop device; the loser tries again. */
function retrying<T>(action: () => T): T {
  for (let attempt = 1; ; attempt++) {
    try {
      return action();
    } catch (error) {
      if (attempt === 5) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100 * attempt);
    }
  }
}

/** Makes and mounts a new file system. @throws when the machine does not allow it */
export function mountNew(kind: FileSystemKind, sizeMiB = SMALLEST_MIB): MountedFileSystem {
  const folder = makeTempFolder(kind);
  const mountPoint = path.join(folder, 'mnt');
  mkdirSync(mountPoint);
  try {
    if (kind === 'tmpfs') {
      mustSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMiB}m`, 'tmpfs', mountPoint]);
    } else {
      const image = path.join(folder, 'image');
      writeFileSync(image, '');
      truncateSync(image, Math.max(sizeMiB, SMALLEST_MIB) * 1024 * 1024);
      const [command = '', ...args] = MKFS[kind];
      mustSync(command, [...args, image]);
      retrying(() => mustSync('mount', ['-t', kind, '-o', 'loop', image, mountPoint]));
    }
  } catch (error) {
    removeFolder(folder);
    throw error;
  }
  return {
    kind,
    path: mountPoint,
    unmount: () => {
      unmountPath(mountPoint);
      removeFolder(folder);
    },
  };
}

/** The same, but undefined where this machine can't: for tests that skip. */
export function mountedFileSystem(kind: FileSystemKind, sizeMiB?: number): MountedFileSystem | undefined {
  if (!isRoot) return undefined;
  try {
    return mountNew(kind, sizeMiB);
  } catch {
    return undefined;
  }
}

/** Attaches a file as a block device. @throws when the machine does not allow it */
export function loopDevice(
  file: string,
  options: { readOnly?: boolean; sectorSize?: 512 | 4096 } = {},
): LoopDevice {
  const args = options.readOnly ? ['-r'] : [];
  if (options.sectorSize !== undefined) args.push('--sector-size', String(options.sectorSize));
  const device = retrying(() => mustSync('losetup', [...args, '-f', '--show', file])).trim();
  return { path: device, detach: () => mustSync('losetup', ['-d', device]) };
}

function unmountPath(mountPoint: string): void {
  try {
    mustSync('umount', [mountPoint]);
  } catch {
    // Something still uses it: take it out of the tree now, the kernel frees it when the last user is gone.
    mustSync('umount', ['-l', mountPoint]);
  }
}

/** Undoes the octal escapes of /proc/mounts. */
function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Mount points below a folder, innermost first. */
function mountsBelow(folder: string): string[] {
  let table: string;
  try {
    table = readFileSync('/proc/mounts', 'utf8');
  } catch {
    return [];
  }
  const points = table.split('\n').map((line) => unescapeMount(line.split(' ')[1] ?? ''));
  return points.filter((point) => point.startsWith(`${folder}/`)).reverse();
}

/** Loop devices whose file lies below a folder. */
function loopsBelow(folder: string): string[] {
  if (!findTool('losetup')) return [];
  const lines = mustSync('losetup', ['-l', '-n', '-O', 'NAME,BACK-FILE']).split('\n');
  const rows = lines.map((line) => line.trim().split(/\s+/));
  return rows.flatMap(([device, file]) => (device && file?.startsWith(`${folder}/`) ? [device] : []));
}

/** Unmounts and detaches everything below a folder; says what could not be given back. */
export function releaseAll(folder: string): string[] {
  const problems: string[] = [];
  const attempt = (action: () => void): void => {
    try {
      action();
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  };
  for (const point of mountsBelow(folder)) attempt(() => unmountPath(point));
  for (const device of loopsBelow(folder)) attempt(() => mustSync('losetup', ['-d', device]));
  return problems;
}
