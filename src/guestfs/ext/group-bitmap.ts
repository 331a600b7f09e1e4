/**
 * The block bitmap of one ext2/3/4 group: read and verified, or computed where it was never written.
 *
 * Invariant: a bitmap is handed out only when its checksum is right (where there are checksums), its clear
 * bits are as many as the descriptor says, what lies past the group's end is marked, and all metadata in
 * the group is marked. An uninitialised bitmap's bytes are never looked at: they are whatever lay there.
 *
 * Source: Linux, Documentation/filesystems/ext4, "Block and Inode Bitmaps", "Bigalloc".
 */
import { allSet, type BitRun, clearRuns, setBits } from '../bitmap-runs.js';
import { inconsistent } from '../inconsistent.js';
import { extCrc32c } from './checksum.js';
import { type GroupDescriptor, isInside, ownMetadata, type ReadBlocks } from './descriptors.js';
import { type BlockRun, fixedMetadata, groupBlocks, groupClusters } from './layout.js';
import type { Superblock } from './superblock.js';

/** Descriptors of 64 bytes hold all of a bitmap's checksum, smaller ones the low half. */
const WIDE_DESCRIPTOR = 64;

/** Runs of metadata in a group: fixed ones, its own, and those of other groups. Sorted. */
function metadataIn(sb: Superblock, descriptor: GroupDescriptor, foreign: readonly BlockRun[]): BlockRun[] {
  const home = groupBlocks(sb, descriptor.group);
  const fixed = fixedMetadata(sb, descriptor.group);
  if (fixed && !isInside(fixed, home))
    throw inconsistent(`group ${descriptor.group} is too small for its metadata`);
  const own = ownMetadata(sb, descriptor).filter((run) => isInside(run, home));
  const runs = [...(fixed ? [fixed] : []), ...own, ...foreign].sort((a, b) => a.first - b.first);
  for (const [index, run] of runs.entries()) {
    const before = runs[index - 1];
    if (before && before.first + before.count > run.first)
      throw inconsistent(`metadata overlaps in block ${run.first}`);
  }
  return runs;
}

/** The clusters of a group that a run of blocks touches. */
function clustersOf(sb: Superblock, group: number, run: BlockRun): { first: number; end: number } {
  const home = groupBlocks(sb, group);
  const from = Math.max(run.first - home.first, 0);
  const to = Math.min(run.first + run.count - home.first, home.count);
  return { first: Math.floor(from / sb.clusterBlocks), end: Math.ceil(to / sb.clusterBlocks) };
}

function computed(sb: Superblock, group: number, metadata: readonly BlockRun[]): Uint8Array {
  const bitmap = new Uint8Array(sb.clustersPerGroup / 8);
  setBits(bitmap, groupClusters(sb, group), sb.clustersPerGroup);
  for (const run of metadata) {
    const { first, end } = clustersOf(sb, group, run);
    setBits(bitmap, first, end);
  }
  return bitmap;
}

async function stored(sb: Superblock, descriptor: GroupDescriptor, read: ReadBlocks): Promise<Uint8Array> {
  const { group } = descriptor;
  const block = await read(descriptor.blockBitmap, 1);
  const bitmap = block.subarray(0, sb.clustersPerGroup / 8);
  if (sb.checksumSeed !== undefined) {
    const mask = sb.descriptorSize >= WIDE_DESCRIPTOR ? 0xffffffff : 0xffff;
    if ((extCrc32c(sb.checksumSeed, bitmap) & mask) >>> 0 !== descriptor.bitmapChecksum)
      throw inconsistent(`the checksum of the bitmap of group ${group} is wrong`);
  }
  if (!allSet(block, groupClusters(sb, group), sb.blockSize * 8))
    throw inconsistent(`the bitmap of group ${group} has free blocks behind the end of the group`);
  return bitmap;
}

/**
 * The free clusters of a group, as runs.
 * @param foreign runs of other groups' metadata that touch this group, sorted
 * @throws IMAGE_CORRUPT (`inconsistent`)
 */
export async function freeClusterRuns(
  sb: Superblock,
  descriptor: GroupDescriptor,
  foreign: readonly BlockRun[],
  read: ReadBlocks,
): Promise<BitRun[]> {
  const { group } = descriptor;
  const metadata = metadataIn(sb, descriptor, foreign);
  const bitmap = descriptor.blockUninit ? computed(sb, group, metadata) : await stored(sb, descriptor, read);
  for (const run of metadata) {
    const { first, end } = clustersOf(sb, group, run);
    if (!allSet(bitmap, first, end))
      throw inconsistent(`the bitmap of group ${group} calls its metadata in block ${run.first} free`);
  }
  const runs = [...clearRuns(bitmap, 0, groupClusters(sb, group))];
  const free = runs.reduce((sum, { count }) => sum + count, 0);
  if (free !== descriptor.freeClusters)
    throw inconsistent(
      `the bitmap of group ${group} has ${free} free clusters, its descriptor ${descriptor.freeClusters}`,
    );
  return runs;
}
