/**
 * Disks as guests leave them: a file system, alone or in a GPT partition, filled with files of which most
 * were deleted again.
 *
 * Invariant: what is mounted is unmounted again, whatever happens; hashes are those of the files that stay.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { hashesOf, sparseFile } from './guest-tree.js';
import { must } from './run.js';

const MiB = 1024 * 1024;

export type GuestKind = 'ext4' | 'xfs' | 'ntfs' | 'exfat' | 'fat32';

export interface GuestShape {
  kind: GuestKind;
  /** Size of the disk. */
  mib: number;
  /** Files of 1, 2 or more MiB each; every third one stays. */
  files: number;
  fileMib: number;
  /** In a partition of a GPT; else the file system is all of the disk. */
  gpt?: boolean;
}

export interface Guest {
  raw: string;
  shape: GuestShape;
  /** Bytes of the files that stay. */
  used: number;
  /** Names and hashes of the files that stay. */
  hashes: string[];
}

const START = MiB;

const MAKE: Record<GuestKind, readonly string[]> = {
  ext4: ['mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-E', 'lazy_itable_init=1'],
  xfs: ['mkfs.xfs', '-q', '-f'],
  ntfs: ['mkntfs', '-q', '-F', '-f'],
  exfat: ['mkfs.exfat'],
  fat32: ['mkfs.fat', '-F', '32'],
};

const CHECK: Record<GuestKind, readonly string[]> = {
  ext4: ['e2fsck', '-fn'],
  xfs: ['xfs_repair', '-n'],
  ntfs: ['ntfsfix', '-n'],
  exfat: ['fsck.exfat', '-n'],
  fat32: ['fsck.fat', '-n'],
};

const MOUNT: Record<Exclude<GuestKind, 'fat32'>, readonly string[]> = {
  ext4: ['mount', '-t', 'ext4'],
  xfs: ['mount', '-t', 'xfs'],
  ntfs: ['ntfs-3g'],
  exfat: ['mount.exfat-fuse'],
};

function begin({ gpt }: GuestShape): number {
  return gpt ? START : 0;
}

/** Runs something with the volume as a block device. */
async function attached<T>(
  raw: string,
  shape: GuestShape,
  action: (device: string) => Promise<T>,
): Promise<T> {
  const offset = begin(shape);
  const length = shape.mib * MiB - 2 * offset;
  const args = ['-f', '--show', '-o', String(offset), '--sizelimit', String(length), raw];
  const device = (await must('losetup', args)).stdout.trim();
  try {
    return await action(device);
  } finally {
    await must('losetup', ['-d', device]);
  }
}

/** Runs something with the volume mounted. */
async function mounted<T>(raw: string, shape: GuestShape, action: (folder: string) => T): Promise<T> {
  const folder = `${raw}.mnt`;
  mkdirSync(folder, { recursive: true });
  const { kind } = shape;
  if (kind === 'fat32') throw new Error('FAT is read with mtools');
  return attached(raw, shape, async (device) => {
    const [command = '', ...args] = MOUNT[kind];
    await must(command, [...args, device, folder]);
    try {
      return action(folder);
    } finally {
      await must('umount', [folder]);
    }
  });
}

function writeFiles(folder: string, { files, fileMib }: GuestShape): void {
  for (let index = 0; index < files; index += 1)
    writeFileSync(path.join(folder, `file${index}`), randomBytes(fileMib * MiB));
}

function deleteMost(folder: string, { files }: GuestShape): void {
  for (let index = 0; index < files; index += 1)
    if (index % 3 !== 0) rmSync(path.join(folder, `file${index}`));
}

/** mtools name a volume by file and offset. */
const mtoolsName = (raw: string, shape: GuestShape): string => `${raw}@@${begin(shape)}`;

async function fillFat(raw: string, shape: GuestShape): Promise<string[]> {
  const tree = `${raw}.tree`;
  mkdirSync(tree);
  writeFiles(tree, shape);
  const names = Array.from({ length: shape.files }, (_, index) => `file${index}`);
  const drive = mtoolsName(raw, shape);
  await must('mcopy', ['-i', drive, ...names.map((name) => path.join(tree, name)), '::/']);
  const victims = names.filter((_, index) => index % 3 !== 0).map((name) => `::/${name}`);
  await must('mdel', ['-i', drive, ...victims]);
  deleteMost(tree, shape);
  const hashes = hashesOf(tree);
  rmSync(tree, { recursive: true });
  return hashes;
}

/** Makes such a disk as a raw image. */
export async function makeGuest(raw: string, shape: GuestShape): Promise<Guest> {
  sparseFile(raw, shape.mib * MiB);
  if (shape.gpt) {
    const sectors = (shape.mib * MiB - 2 * START) / 512;
    await must('sfdisk', ['-q', raw], { input: `label: gpt\nstart=2048, size=${sectors}\n` });
  }
  const [command = '', ...args] = MAKE[shape.kind];
  await attached(raw, shape, (device) => must(command, [...args, device]));
  let hashes: string[];
  if (shape.kind === 'fat32') hashes = await fillFat(raw, shape);
  else {
    // Written back in between: what never reached the disk needs no deleting.
    await mounted(raw, shape, (folder) => writeFiles(folder, shape));
    hashes = await mounted(raw, shape, (folder) => {
      deleteMost(folder, shape);
      return hashesOf(folder);
    });
  }
  return { raw, shape, hashes, used: Math.ceil(shape.files / 3) * shape.fileMib * MiB };
}

/** What is on a disk that was such a guest's: the file system's own checker is content, and these files. */
export async function filesOf(raw: string, shape: GuestShape): Promise<string[]> {
  const [command = '', ...args] = CHECK[shape.kind];
  await attached(raw, shape, (device) => must(command, [...args, device]));
  if (shape.kind !== 'fat32') return mounted(raw, shape, hashesOf);
  const back = `${raw}.back`;
  mkdirSync(back);
  await must('mcopy', ['-i', mtoolsName(raw, shape), '-n', '::/*', back]);
  const hashes = hashesOf(back);
  rmSync(back, { recursive: true });
  return hashes;
}
