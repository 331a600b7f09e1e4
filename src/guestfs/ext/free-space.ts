/**
 * Free space of ext2, ext3 and ext4: the clear bits of the block bitmaps, after everything about the file
 * system was checked.
 *
 * Invariant: `free` is answered only for a file system that was cleanly unmounted, whose superblock,
 * descriptors, bitmaps and journal agree with each other in every group, checksums included, and whose
 * free counts add up. Walking the ranges checks each group again. Memory does not depend on the volume's
 * size: one block of descriptors, one bitmap and runs of scattered metadata (bounded) are held.
 *
 * Deliberately not here: replaying journals, and what lies between the file system's end and the volume's.
 */
import type { ByteRange } from '../../io/random-access-file.js';
import type { FreeSpace, FreeSpaceAnswer, FreeSpaceReader, VolumeRange } from '../free-space.js';
import { inconsistent, keptIfInconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { ForeignMetadata, type GroupDescriptor, type ReadBlocks, readDescriptors } from './descriptors.js';
import { freeClusterRuns } from './group-bitmap.js';
import { idleStructures } from './journal.js';
import { type BlockRun, firstBackupGroup, groupBlocks, superblockPlace } from './layout.js';
import {
  decodeSuperblock,
  hasExtMagic,
  SUPERBLOCK_AT,
  SUPERBLOCK_BYTES,
  type Superblock,
  sameShape,
} from './superblock.js';

interface FileSystem {
  sb: Superblock;
  volume: VolumeRange;
  read: ReadBlocks;
  /** Metadata that no group's own descriptor leads to. */
  foreign: readonly BlockRun[];
}

/** Answers, for groups in order, which runs of a sorted list touch them. */
function touching(sb: Superblock, runs: readonly BlockRun[]): (group: number) => BlockRun[] {
  let next = 0;
  return (group) => {
    const { first, count } = groupBlocks(sb, group);
    const found: BlockRun[] = [];
    for (let run = runs[next]; run !== undefined && run.first + run.count <= first; run = runs[next])
      next += 1;
    for (let at = next; at < runs.length; at += 1) {
      const run = runs[at];
      if (!run || run.first >= first + count) break;
      found.push(run);
    }
    return found;
  };
}

/** A run of blocks as bytes of the disk. */
function toBytes({ sb, volume }: FileSystem, first: number, end: number): ByteRange {
  return { offset: volume.offset + first * sb.blockSize, length: (end - first) * sb.blockSize };
}

/** Free runs of blocks, group by group, each group checked before its runs appear. */
async function* freeRuns(fs: FileSystem): AsyncGenerator<BlockRun> {
  const { sb } = fs;
  const touch = touching(sb, fs.foreign);
  let freeBlocks = 0;
  for await (const descriptor of readDescriptors(sb, fs.read)) {
    const home = groupBlocks(sb, descriptor.group);
    for (const run of await freeClusterRuns(sb, descriptor, touch(descriptor.group), fs.read)) {
      freeBlocks += run.count * sb.clusterBlocks;
      const first = run.first * sb.clusterBlocks;
      const end = Math.min(first + run.count * sb.clusterBlocks, home.count);
      yield { first: home.first + first, count: end - first };
    }
  }
  if (freeBlocks !== sb.freeBlocks)
    throw inconsistent(`its groups have ${freeBlocks} free blocks, its superblock says ${sb.freeBlocks}`);
}

/** The same with neighbours joined, as bytes. */
async function* freeRanges(fs: FileSystem): AsyncGenerator<ByteRange> {
  let open: BlockRun | undefined;
  for await (const run of freeRuns(fs)) {
    if (open && open.first + open.count === run.first) {
      open.count += run.count;
      continue;
    }
    if (open) yield toBytes(fs, open.first, open.first + open.count);
    open = run;
  }
  if (open) yield toBytes(fs, open.first, open.first + open.count);
}

async function checkBackup(sb: Superblock, primary: Uint8Array, read: ReadBlocks): Promise<void> {
  const group = firstBackupGroup(sb);
  if (group === undefined) return;
  const copy = await read(superblockPlace(sb, group), 1);
  if (!sameShape(copy, primary)) throw inconsistent(`the copy of its superblock in group ${group} differs`);
}

/** Where metadata lies that group descriptors do not lead to, all descriptors checked on the way. */
async function findForeign(sb: Superblock, read: ReadBlocks): Promise<readonly BlockRun[]> {
  const foreign = new ForeignMetadata();
  let first: GroupDescriptor | undefined;
  for await (const descriptor of readDescriptors(sb, read)) {
    first ??= descriptor;
    foreign.add(sb, descriptor);
  }
  if (!first) throw inconsistent('it has no groups');
  for (const run of await idleStructures(sb, first, read)) foreign.addRun(run);
  return foreign.seal();
}

async function judge(
  sb: Superblock,
  primary: Uint8Array,
  readBytes: ReadBytes,
  volume: VolumeRange,
): Promise<FreeSpaceAnswer> {
  const read: ReadBlocks = (first, count) =>
    readBytes(volume.offset + first * sb.blockSize, count * sb.blockSize);
  await checkBackup(sb, primary, read);
  const fs: FileSystem = { sb, volume, read, foreign: await findForeign(sb, read) };
  let freeBytes = 0;
  for await (const { count } of freeRuns(fs)) freeBytes += count * sb.blockSize;
  const space: FreeSpace = { kind: sb.kind, freeBytes, ranges: () => freeRanges(fs) };
  return { status: 'free', space };
}

/** Reads ext2, ext3 and ext4. */
export const extFreeSpace: FreeSpaceReader = async (read, volume) => {
  if (volume.length < SUPERBLOCK_AT + SUPERBLOCK_BYTES) return { status: 'other' };
  const bytes = await read(volume.offset + SUPERBLOCK_AT, SUPERBLOCK_BYTES);
  if (!hasExtMagic(bytes)) return { status: 'other' };
  const sb = decodeSuperblock(bytes, volume.length);
  if ('refusal' in sb) return { status: 'kept', kind: sb.kind, reason: sb.refusal };
  return keptIfInconsistent(sb.kind, () => judge(sb, bytes, read, volume));
};
