/**
 * Where ext2/3/4 keeps its fixed metadata: superblock copies and group descriptors. Pure arithmetic.
 *
 * Invariant: follows from the superblock alone. Block numbers are of the volume. Bitmaps and inode tables
 * are not here: they lie where the group descriptors say (descriptors.ts).
 *
 * Source: Linux, Documentation/filesystems/ext4, "Layout", "Meta Block Groups", "Bigalloc".
 */
import { COMPAT, INCOMPAT, RO_COMPAT, SUPERBLOCK_AT, type Superblock } from './superblock.js';

/** A run of blocks of the volume. */
export interface BlockRun {
  first: number;
  count: number;
}

/** First block of a group, and how many it has: the last group may be shorter. */
export function groupBlocks(sb: Superblock, group: number): BlockRun {
  const first = sb.firstDataBlock + group * sb.blocksPerGroup;
  return { first, count: Math.min(sb.blocksPerGroup, sb.blocks - first) };
}

/** Clusters of a group, the last one perhaps incomplete. */
export function groupClusters(sb: Superblock, group: number): number {
  return Math.ceil(groupBlocks(sb, group).count / sb.clusterBlocks);
}

function isPowerOf(base: number, value: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

/** Has this group a copy of the superblock? */
export function hasSuperblock(sb: Superblock, group: number): boolean {
  if (group === 0) return true;
  if (sb.compat & COMPAT.sparseSuper2) return sb.backupGroups.includes(group);
  if (group === 1 || !(sb.roCompat & RO_COMPAT.sparseSuper)) return true;
  return isPowerOf(3, group) || isPowerOf(5, group) || isPowerOf(7, group);
}

/** The first group after group 0 with a copy of the superblock, if there is one. */
export function firstBackupGroup(sb: Superblock): number | undefined {
  const candidates = sb.compat & COMPAT.sparseSuper2 ? sb.backupGroups.filter((group) => group > 0) : [1];
  return candidates.find((group) => group < sb.groups);
}

export function descriptorsPerBlock(sb: Superblock): number {
  return sb.blockSize / sb.descriptorSize;
}

/** Blocks of descriptors of the whole file system. */
function tableBlocks(sb: Superblock): number {
  return Math.ceil(sb.groups / descriptorsPerBlock(sb));
}

/** Is the group one whose descriptors lie in its own meta block group? */
function inMetaBg(sb: Superblock, group: number): boolean {
  return (
    (sb.incompat & INCOMPAT.metaBg) !== 0 && Math.floor(group / descriptorsPerBlock(sb)) >= sb.firstMetaBg
  );
}

/** The block with the primary superblock: with blocks of 1 KiB it is block 1, even where groups start at 0. */
function primaryBlock(sb: Superblock): number {
  return Math.floor(SUPERBLOCK_AT / sb.blockSize);
}

/** The block of a group's superblock copy. */
export function superblockPlace(sb: Superblock, group: number): number {
  return group === 0 ? primaryBlock(sb) : groupBlocks(sb, group).first;
}

/** The block that holds descriptor block number `index` of the table. */
export function descriptorBlockPlace(sb: Superblock, index: number): number {
  const group = index * descriptorsPerBlock(sb);
  if (!inMetaBg(sb, group)) return primaryBlock(sb) + 1 + index;
  return hasSuperblock(sb, group) ? superblockPlace(sb, group) + 1 : groupBlocks(sb, group).first;
}

/**
 * Superblock copy, descriptors and room for more descriptors in a group: one run from its first block, or
 * nothing.
 */
export function fixedMetadata(sb: Superblock, group: number): BlockRun | undefined {
  const { first } = groupBlocks(sb, group);
  const withSuper = hasSuperblock(sb, group);
  const afterSuper = withSuper ? superblockPlace(sb, group) + 1 : first;
  if (!inMetaBg(sb, group)) {
    if (!withSuper) return undefined;
    const table = sb.incompat & INCOMPAT.metaBg ? sb.firstMetaBg : tableBlocks(sb);
    return { first, count: afterSuper - first + table + sb.reservedGdtBlocks };
  }
  // The first, second and last group of a meta block group have a copy of its descriptors.
  const inMeta = group % descriptorsPerBlock(sb);
  const hasCopy = inMeta < 2 || inMeta === descriptorsPerBlock(sb) - 1;
  const count = afterSuper - first + (hasCopy ? 1 : 0);
  return count > 0 ? { first, count } : undefined;
}
