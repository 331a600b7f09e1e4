/**
 * A raw disk as a small computer has it: a GPT with one ext4 partition full of files.
 *
 * Invariant: the same options give the same bytes, so that hashes can be compared between runs: contents
 * come from a seeded generator, ids and times are fixed.
 */
import { mkdirSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { must } from './run.js';
import { makeTempFolder, removeFolder } from './tmp.js';

const MIB = 1024 * 1024;
const FIXED_TIME = 1_700_000_000;
/** Inodes in use besides the small files: lost+found, two folders and four named files. */
const NAMED_INODES = 7;
const ID_STEM = '5f1c3a52-7d0e-4b6a-9a41';

/** Programs that `makeSampleDisk` needs. */
export const SAMPLE_DISK_TOOLS = ['sfdisk', 'mke2fs', 'debugfs'] as const;

export interface SampleDisk {
  path: string;
  /** Bytes. */
  size: number;
  partition: { offset: number; length: number };
}

export interface SampleDiskOptions {
  sizeMiB?: number;
  /** Random bytes in files on the disk, in MiB. */
  payloadMiB?: number;
  /** Number of small files; default 40. */
  smallFiles?: number;
  seed?: number;
}

/** Reproducible bytes that do not compress and hold no long runs of zeros (xorshift128). */
export function seededBytes(length: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let [x, y, z, w] = [(seed << 1) | 1, 0x159a55e5, 0x1f123bb5, 0x05491333];
  for (let i = 0; i < words.length; i++) {
    const t = x ^ (x << 11);
    [x, y, z] = [y, z, w];
    w = (w ^ (w >>> 19) ^ (t ^ (t >>> 8))) | 0;
    words[i] = w;
  }
  return Buffer.from(words.buffer, 0, length);
}

function writeTree(folder: string, payload: number, smallFiles: number, seed: number): void {
  const files: [string, Buffer][] = [
    ['readme.txt', Buffer.from('A sample disk. Its files have known contents.\n')],
    ['random.bin', seededBytes(payload, seed)],
    ['zeros.bin', Buffer.alloc(MIB)],
    ['logs/app.log', Buffer.from('all quiet\n'.repeat(4000))],
    ...Array.from({ length: smallFiles }, (_, index): [string, Buffer] => [
      `small/file-${index}`,
      seededBytes(1 + ((index * 977) % 9000), seed + index + 1),
    ]),
  ];
  for (const [name, content] of files) {
    const file = path.join(folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
    utimesSync(file, FIXED_TIME, FIXED_TIME);
  }
  for (const name of ['logs', 'small', '.']) utimesSync(path.join(folder, name), FIXED_TIME, FIXED_TIME);
}

/** mke2fs copies the times of change of the folder it is given, which nobody can choose: overwrites them. */
async function fixTimes(
  file: string,
  offset: number,
  inodeCount: number,
  env: Record<string, string>,
): Promise<void> {
  const fields = ['atime', 'ctime', 'mtime', 'crtime'];
  const inodes = [2, ...Array.from({ length: inodeCount }, (_, index) => 11 + index)];
  const commands = inodes.flatMap((inode) =>
    fields.flatMap((field) => [
      `set_inode_field <${inode}> ${field} @${FIXED_TIME}`,
      `set_inode_field <${inode}> ${field}_extra 0`,
    ]),
  );
  await must('debugfs', ['-w', '-f', '-', `${file}?offset=${offset}`], {
    env,
    input: `${commands.join('\n')}\n`,
  });
}

/** Makes the disk at `file`. Needs SAMPLE_DISK_TOOLS, but no privileges. */
export async function makeSampleDisk(file: string, options: SampleDiskOptions = {}): Promise<SampleDisk> {
  const { sizeMiB = 64, payloadMiB = 6, smallFiles = 40, seed = 1 } = options;
  const size = sizeMiB * MIB;
  // One MiB in front for the table, one behind for its copy.
  const partition = { offset: MIB, length: size - 2 * MIB };
  writeFileSync(file, '');
  truncateSync(file, size);
  const table = [
    'label: gpt',
    `label-id: ${ID_STEM}-000000000001`,
    `start=${partition.offset / 512}, size=${partition.length / 512}, type=L, uuid=${ID_STEM}-000000000002`,
  ];
  await must('sfdisk', ['--quiet', file], { input: `${table.join('\n')}\n` });
  const tree = makeTempFolder('tree');
  try {
    writeTree(tree, payloadMiB * MIB, smallFiles, seed);
    const id = `${ID_STEM}-000000000003`;
    const extended = `offset=${partition.offset},hash_seed=${id},root_owner=0:0,lazy_itable_init=0`;
    const args = ['-q', '-F', '-t', 'ext4', '-b', '4096', '-U', id, '-E', extended, '-d', tree, file];
    const env = { E2FSPROGS_FAKE_TIME: String(FIXED_TIME) };
    await must('mke2fs', [...args, `${partition.length / 1024}K`], { env });
    await fixTimes(file, partition.offset, NAMED_INODES + smallFiles, env);
  } finally {
    removeFolder(tree);
  }
  return { path: file, size, partition };
}

/** Has e2fsck examine the partition without changing it. @throws with its findings */
export async function checkPartition(file: string, partition: { offset: number }): Promise<void> {
  await must('e2fsck', ['-f', '-n', `${file}?offset=${partition.offset}`]);
}
