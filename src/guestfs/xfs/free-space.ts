/**
 * Free space of XFS (versions 4 and 5): the extents of each group's free-space tree.
 *
 * Invariant: `free` is answered only for a file system whose log is empty, whose groups' headers and both
 * free-space trees agree with each other (same extents, same sums, nothing that is certainly in use among
 * them) and whose counts add up to the superblock's. Walking the ranges checks each group again. Memory
 * holds one group's tree blocks at most.
 *
 * Deliberately not here: realtime sections, logs on other devices, replaying logs.
 */
import type { ByteRange } from '../../io/random-access-file.js';
import type { FreeSpaceAnswer, FreeSpaceReader, VolumeRange } from '../free-space.js';
import { inconsistent, keptIfInconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { volumeBytes } from '../volume-bytes.js';
import { type GroupHeader, type GroupRun, readGroup } from './group.js';
import { checkLogIsClean } from './log.js';
import {
  claimedSectorSize,
  decodeXfsSuperblock,
  groupAndBlock,
  hasXfsMagic,
  SUPERBLOCK_BYTES,
  type XfsSuperblock,
} from './superblock.js';
import { freeExtents, type TreeKind, type TreeWalk } from './tree.js';

const KIND = 'xfs';

interface FileSystem {
  sb: XfsSuperblock;
  primary: Uint8Array;
  volume: VolumeRange;
  /** Bytes of the volume. */
  read: ReadBytes;
}

/** What two trees with the same extents have in common, whatever their order. */
interface Sum {
  extents: number;
  blocks: number;
  longest: number;
  mixed: number;
}

function addTo(sum: Sum, { first, count }: GroupRun): void {
  sum.extents += 1;
  sum.blocks += count;
  sum.longest = Math.max(sum.longest, count);
  sum.mixed = (sum.mixed + Math.imul(first ^ Math.imul(count, 0x9e3779b1), 0x85ebca6b)) >>> 0;
}

async function sumTree(walk: TreeWalk): Promise<Sum> {
  const sum: Sum = { extents: 0, blocks: 0, longest: 0, mixed: 0 };
  for await (const run of freeExtents(walk)) addTo(sum, run);
  return sum;
}

/** Checks that both trees of a group say the same, and answers with the blocks they occupy. */
async function compareTrees({ sb, read }: FileSystem, header: GroupHeader): Promise<number[]> {
  const walkOf = (kind: TreeKind): TreeWalk => ({ read, sb, header, kind, blocks: [] });
  const byBlock = walkOf('byBlock');
  const bySize = walkOf('bySize');
  const [a, b] = [await sumTree(byBlock), await sumTree(bySize)];
  const { group } = header;
  if (a.extents !== b.extents || a.blocks !== b.blocks || a.mixed !== b.mixed)
    throw inconsistent(`the two free-space trees of group ${group} differ`);
  if (a.blocks !== header.freeBlocks || a.longest !== header.longest)
    throw inconsistent(`group ${group} has ${a.blocks} free blocks, its header says ${header.freeBlocks}`);
  return [...byBlock.blocks, ...bySize.blocks];
}

/** The free extents of a group, after everything about it was checked. */
async function* groupExtents(fs: FileSystem, header: GroupHeader): AsyncGenerator<GroupRun> {
  const { sb, read } = fs;
  const blocks = await compareTrees(fs, header);
  const inUse = [...header.inUse, ...blocks.map((first) => ({ first, count: 1 }))];
  inUse.sort((x, y) => x.first - y.first);
  let next = 0;
  for await (const run of freeExtents({ read, sb, header, kind: 'byBlock', blocks: [] })) {
    let used = inUse[next];
    while (used && used.first + used.count <= run.first) {
      next += 1;
      used = inUse[next];
    }
    if (used && used.first < run.first + run.count)
      throw inconsistent(`group ${header.group} calls block ${used.first} free, which is in use`);
    yield run;
  }
}

async function* freeRanges(fs: FileSystem): AsyncGenerator<ByteRange> {
  const { sb, volume } = fs;
  let counted = 0;
  for (let group = 0; group < sb.groups; group += 1) {
    const header = await readGroup(fs.read, sb, group, fs.primary);
    counted += header.counted;
    const start = volume.offset + group * sb.groupBlocks * sb.blockSize;
    for await (const { first, count } of groupExtents(fs, header))
      yield { offset: start + first * sb.blockSize, length: count * sb.blockSize };
  }
  if (counted !== sb.freeBlocks)
    throw inconsistent(`its groups have ${counted} free blocks, its superblock says ${sb.freeBlocks}`);
}

async function judge(fs: FileSystem): Promise<FreeSpaceAnswer> {
  const { sb, read } = fs;
  const log = groupAndBlock(sb, sb.logStart);
  const logAt = (log.group * sb.groupBlocks + log.block) * sb.blockSize;
  const readLog: ReadBytes = (offset, length) => read(logAt + offset, length);
  await checkLogIsClean(sb, readLog, sb.logBlocks * sb.blockSize);
  let freeBytes = 0;
  for await (const { length } of freeRanges(fs)) freeBytes += length;
  return { status: 'free', space: { kind: KIND, freeBytes, ranges: () => freeRanges(fs) } };
}

/** Reads XFS. */
export const xfsFreeSpace: FreeSpaceReader = async (readDisk, volume) => {
  if (volume.length < SUPERBLOCK_BYTES) return { status: 'other' };
  const read = volumeBytes(readDisk, volume);
  const head = await read(0, SUPERBLOCK_BYTES);
  if (!hasXfsMagic(head)) return { status: 'other' };
  return keptIfInconsistent(KIND, async () => {
    const sectorSize = claimedSectorSize(head);
    if (sectorSize === undefined) throw inconsistent('impossible sector size');
    const primary = await read(0, sectorSize);
    const sb = decodeXfsSuperblock(primary, volume.length);
    if ('refusal' in sb) throw inconsistent(sb.refusal);
    return judge({ sb, primary, volume, read });
  });
};
