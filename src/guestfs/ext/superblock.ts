/**
 * The ext2/3/4 superblock: decoded, and judged by itself. Pure.
 *
 * Invariant: a decoded superblock describes groups that fit each other and the volume, so that its numbers
 * may be used for offsets and loops. Whatever says that the file system is in use, damaged or of a kind
 * that is not understood is a refusal with a reason.
 *
 * Source: Linux, Documentation/filesystems/ext4, "Super Block". Blocks and clusters are counted as there;
 * offsets below are within the superblock.
 */
import { isPowerOfTwo, KiB } from '../../base/bytes.js';
import type { FileSystemKind } from '../free-space.js';
import { extCrc32c } from './checksum.js';

/** Where the primary copy lies in the volume, and how long it is. Bytes. */
export const SUPERBLOCK_AT = 1024;
export const SUPERBLOCK_BYTES = 1024;
const MAGIC = 0xef53;
const CHECKSUM_AT = 1020;

/** Ours: more groups than any disk of 64 TiB has with the sizes that mke2fs chooses (2^19). */
const MAX_GROUPS = 2 ** 21;
/** mke2fs makes no smaller groups. */
const MIN_BLOCKS_PER_GROUP = 256;

const STATE = { clean: 1, errors: 2, orphans: 4 } as const;
const ERRORS_RECORDED_AT = 0x194;

export const COMPAT = {
  hasJournal: 0x4,
  lazyBg: 0x40,
  excludeInode: 0x80,
  excludeBitmap: 0x100,
  sparseSuper2: 0x200,
} as const;
export const INCOMPAT = {
  compression: 0x1,
  needsRecovery: 0x4,
  journalDevice: 0x8,
  metaBg: 0x10,
  extents: 0x40,
  bits64: 0x80,
  mmp: 0x100,
  flexBg: 0x200,
  csumSeed: 0x2000,
} as const;
export const RO_COMPAT = {
  sparseSuper: 0x1,
  gdtCsum: 0x10,
  bigalloc: 0x200,
  metadataCsum: 0x400,
  orphanPresent: 0x10000,
} as const;

/** filetype, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed, largedir, inline_data, encrypt, casefold. */
const KNOWN_INCOMPAT = 0x2 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x30000;
/**
 * sparse_super, large_file, btree_dir, huge_file, gdt_csum, dir_nlink, extra_isize, quota, bigalloc,
 * metadata_csum, readonly, project, shared_blocks, verity. Not among them: snapshots and replicas.
 */
const KNOWN_RO_COMPAT = 0x7f | 0x100 | 0x200 | 0x400 | 0x1000 | 0x2000 | 0x4000 | 0x8000;
/** Features that only ext4 has, for naming it. */
const EXT4_INCOMPAT = 0x40 | 0x80 | 0x200 | 0x400 | 0x2000 | 0x8000;
const EXT4_RO_COMPAT = 0x8 | 0x10 | 0x20 | 0x40 | 0x200 | 0x400;

export interface Superblock {
  kind: FileSystemKind;
  compat: number;
  incompat: number;
  roCompat: number;
  uuid: Uint8Array;
  /** Start value of metadata checksums; undefined without `metadata_csum`. */
  checksumSeed: number | undefined;
  /** Bytes. */
  blockSize: number;
  blocks: number;
  firstDataBlock: number;
  blocksPerGroup: number;
  clustersPerGroup: number;
  /** Blocks per cluster; 1 without bigalloc. */
  clusterBlocks: number;
  groups: number;
  inodesPerGroup: number;
  inodeSize: number;
  /** As recorded. */
  freeBlocks: number;
  descriptorSize: number;
  reservedGdtBlocks: number;
  firstMetaBg: number;
  /** Groups with superblock copies under sparse_super2. */
  backupGroups: readonly [number, number];
  journalInode: number;
  mmpBlock: number;
}

/** Why a superblock is no ground to go on. */
export interface Refusal {
  kind: string;
  refusal: string;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Does this superblock of SUPERBLOCK_BYTES bytes claim to be one? */
export function hasExtMagic(bytes: Uint8Array): boolean {
  return bytes.length >= SUPERBLOCK_BYTES && viewOf(bytes).getUint16(0x38, true) === MAGIC;
}

function kindOf(compat: number, incompat: number, roCompat: number): FileSystemKind {
  if ((incompat & EXT4_INCOMPAT) !== 0 || (roCompat & EXT4_RO_COMPAT) !== 0) return 'ext4';
  return compat & COMPAT.hasJournal ? 'ext3' : 'ext2';
}

function unsigned(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}

/** Features and flags that mean "in use", "damaged" or "not understood". */
function stateRefusal(sb: Superblock, view: DataView): string | undefined {
  const state = view.getUint16(0x3a, true);
  if (sb.incompat & INCOMPAT.journalDevice) return 'it is the journal of another file system';
  if (sb.incompat & INCOMPAT.needsRecovery)
    return 'not cleanly unmounted: its journal has to be replayed first';
  if (sb.roCompat & RO_COMPAT.orphanPresent) return 'not cleanly unmounted: it has orphaned files';
  const unknown = (sb.incompat & ~KNOWN_INCOMPAT) >>> 0;
  if (unknown) return `it has features that are not understood (incompat ${unsigned(unknown)})`;
  const unknownRo = (sb.roCompat & ~KNOWN_RO_COMPAT) >>> 0;
  if (unknownRo) return `it has features that are not understood (ro_compat ${unsigned(unknownRo)})`;
  if (sb.compat & (COMPAT.lazyBg | COMPAT.excludeInode | COMPAT.excludeBitmap))
    return 'it has features that are not understood (lazy groups or snapshots)';
  if (state & STATE.errors || view.getUint32(ERRORS_RECORDED_AT, true) !== 0)
    return 'it records errors: run e2fsck in the guest';
  if (state & STATE.orphans || view.getUint32(0xe8, true) !== 0)
    return 'not cleanly unmounted: it has orphaned files';
  if (state !== STATE.clean) return 'not cleanly unmounted';
  if (view.getUint16(0x5a, true) !== 0) return 'its first superblock is a copy from another place';
  return undefined;
}

/** What contradicts itself in sizes and counts. */
function shapeRefusal(sb: Superblock, view: DataView, volumeBytes: number): string | undefined {
  const bigalloc = (sb.roCompat & RO_COMPAT.bigalloc) !== 0;
  const bitmapBits = sb.blockSize * 8;
  const { clustersPerGroup, blocksPerGroup, inodesPerGroup, inodeSize, descriptorSize } = sb;
  if (sb.firstDataBlock !== (sb.blockSize === KiB && !bigalloc ? 1 : 0)) return 'impossible first block';
  if (clustersPerGroup === 0 || clustersPerGroup % 8 !== 0 || clustersPerGroup > bitmapBits)
    return `groups of ${clustersPerGroup} clusters`;
  if (!bigalloc && sb.clusterBlocks !== 1) return 'clusters without bigalloc';
  if (blocksPerGroup < MIN_BLOCKS_PER_GROUP || blocksPerGroup !== clustersPerGroup * sb.clusterBlocks)
    return `groups of ${blocksPerGroup} blocks in ${clustersPerGroup} clusters`;
  if (!(sb.blocks > sb.firstDataBlock && sb.blocks <= Math.floor(volumeBytes / sb.blockSize)))
    return `it has ${sb.blocks} blocks, more than its volume`;
  if (sb.groups > MAX_GROUPS) return `it has ${sb.groups} groups, more than is supported`;
  if (inodesPerGroup === 0 || inodesPerGroup > bitmapBits) return `groups of ${inodesPerGroup} inodes`;
  if (view.getUint32(0, true) !== inodesPerGroup * sb.groups) return 'its number of inodes fits no groups';
  if (!isPowerOfTwo(inodeSize) || inodeSize < 128 || inodeSize > sb.blockSize)
    return `inodes of ${inodeSize} bytes`;
  if (!isPowerOfTwo(descriptorSize) || descriptorSize > Math.min(1024, sb.blockSize))
    return `descriptors of ${descriptorSize} bytes`;
  if (sb.incompat & INCOMPAT.bits64 && descriptorSize < 64) return `descriptors of ${descriptorSize} bytes`;
  // A copy of the table and what it may grow into lie in the first group.
  const table = Math.ceil((sb.groups * descriptorSize) / sb.blockSize);
  if (!(sb.incompat & INCOMPAT.metaBg) && table + sb.reservedGdtBlocks + 2 > blocksPerGroup)
    return 'its descriptors do not fit into a group';
  if (sb.incompat & INCOMPAT.metaBg && (sb.reservedGdtBlocks !== 0 || sb.firstMetaBg > table))
    return 'contradictory places of its descriptors';
  if (sb.freeBlocks > sb.blocks) return 'more free blocks than blocks';
  return undefined;
}

function checksumRefusal(bytes: Uint8Array, view: DataView, sb: Superblock): string | undefined {
  if (sb.incompat & INCOMPAT.csumSeed && !(sb.roCompat & RO_COMPAT.metadataCsum))
    return 'a checksum seed without checksums';
  if (!(sb.roCompat & RO_COMPAT.metadataCsum)) return undefined;
  if (view.getUint8(0x175) !== 1) return 'checksums of an unknown kind';
  const sum = extCrc32c(0xffffffff, bytes.subarray(0, CHECKSUM_AT));
  return sum === view.getUint32(CHECKSUM_AT, true) ? undefined : 'the checksum of its superblock is wrong';
}

function decode(bytes: Uint8Array, view: DataView, blockShift: number, clusterShift: number): Superblock {
  // Before revision 1 the fields from 84 on do not exist.
  const dynamic = view.getUint32(0x4c, true) >= 1;
  const u32 = (at: number): number => view.getUint32(at, true);
  const [compat, incompat, roCompat] = dynamic ? [u32(0x5c), u32(0x60), u32(0x64)] : [0, 0, 0];
  const high = (at: number): number => (incompat & INCOMPAT.bits64 ? u32(at) * 2 ** 32 : 0);
  const uuid = bytes.slice(0x68, 0x78);
  const seed = incompat & INCOMPAT.csumSeed ? u32(0x270) : extCrc32c(0xffffffff, uuid);
  const blocks = u32(4) + high(0x150);
  const firstDataBlock = u32(0x14);
  const blocksPerGroup = u32(0x20);
  return {
    kind: kindOf(compat, incompat, roCompat),
    compat,
    incompat,
    roCompat,
    uuid,
    checksumSeed: roCompat & RO_COMPAT.metadataCsum ? seed : undefined,
    blockSize: KiB * 2 ** blockShift,
    blocks,
    firstDataBlock,
    blocksPerGroup,
    clustersPerGroup: u32(0x24),
    clusterBlocks: 2 ** (clusterShift - blockShift),
    groups: Math.ceil((blocks - firstDataBlock) / blocksPerGroup),
    inodesPerGroup: u32(0x28),
    inodeSize: dynamic ? view.getUint16(0x58, true) : 128,
    freeBlocks: u32(0xc) + high(0x158),
    descriptorSize: incompat & INCOMPAT.bits64 ? view.getUint16(0xfe, true) : 32,
    reservedGdtBlocks: dynamic ? view.getUint16(0xce, true) : 0,
    firstMetaBg: incompat & INCOMPAT.metaBg ? u32(0x104) : 0,
    backupGroups: [u32(0x24c), u32(0x250)],
    journalInode: compat & COMPAT.hasJournal ? u32(0xe0) : 0,
    mmpBlock: incompat & INCOMPAT.mmp ? u32(0x168) + u32(0x16c) * 2 ** 32 : 0,
  };
}

/**
 * Decodes and judges the primary superblock.
 * @param bytes SUPERBLOCK_BYTES of them, with the magic number
 * @param volumeBytes length of the volume
 */
export function decodeSuperblock(bytes: Uint8Array, volumeBytes: number): Superblock | Refusal {
  const view = viewOf(bytes);
  const blockShift = view.getUint32(0x18, true);
  const clusterShift = view.getUint32(0x1c, true);
  if (blockShift > 6) return { kind: 'ext2/3/4', refusal: 'impossible block size' };
  if (clusterShift < blockShift || clusterShift > blockShift + 16)
    return { kind: 'ext2/3/4', refusal: 'impossible cluster size' };
  const sb = decode(bytes, view, blockShift, clusterShift);
  // Damage first: what a damaged superblock says about its state means nothing.
  const refusal =
    checksumRefusal(bytes, view, sb) ?? stateRefusal(sb, view) ?? shapeRefusal(sb, view, volumeBytes);
  return refusal === undefined ? sb : { kind: sb.kind, refusal };
}

/** Numbers that every copy of a superblock has in common with the primary one. */
export function sameShape(copy: Uint8Array, primary: Uint8Array): boolean {
  if (!hasExtMagic(copy)) return false;
  const a = viewOf(copy);
  const b = viewOf(primary);
  // Inodes, blocks, first block, sizes of blocks and clusters, blocks, clusters and inodes per group.
  const fields = [0, 4, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28];
  return fields.every((at) => a.getUint32(at, true) === b.getUint32(at, true));
}
