/**
 * The XFS superblock: decoded, and judged by itself. Pure.
 *
 * Invariant: a decoded superblock describes allocation groups that fit each other and the volume, so that
 * its numbers may be used for offsets and loops. What is not understood is a refusal with a reason.
 *
 * Source: XFS Algorithms & Data Structures (kernel.org), "Superblocks"; Linux, fs/xfs/libxfs/xfs_format.h.
 * XFS is big-endian but for its checksums.
 */

import { isPowerOfTwo, KiB, MiB } from '../../base/bytes.js';
import { crc32c } from '../../base/crc32c.js';

/** Bytes of a superblock that count. */
export const SUPERBLOCK_BYTES = 512;
const MAGIC = 0x58465342;
const CRC_AT = 224;

const VERSION_MASK = 0xf;
const VERSION_SHARED = 0x200;
const VERSION_MORE = 0x8000;
const FEATURES2_LAZY_COUNT = 0x2;
/** lazy counts, attr2, 32-bit project ids, checksums, file types. */
const KNOWN_FEATURES2 = 0x2 | 0x8 | 0x80 | 0x100 | 0x200;
/** Free inode tree, reverse mapping, reflinks, inode tree counts. */
const KNOWN_RO_COMPAT = 0xf;
/** ftype, sparse inodes, meta uuid, bigtime, large extent counts, exchange range, parent pointers. */
const KNOWN_INCOMPAT = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80;
const INCOMPAT_META_UUID = 0x4;
const INCOMPAT_NEEDS_REPAIR = 0x10;
/** mkfs.xfs makes none smaller; only the last one may be. */
const MIN_GROUP_BYTES = 16 * MiB;

export interface XfsSuperblock {
  /** Version 5: everything has a checksum. */
  checksums: boolean;
  /** Bytes. */
  blockSize: number;
  sectorSize: number;
  blocks: number;
  groupBlocks: number;
  groups: number;
  /** Bits of a block number within a group, in block numbers of the file system. */
  groupShift: number;
  /** Block numbers of the file system: group and block within it. */
  logStart: number;
  logBlocks: number;
  rootInode: number;
  /** Log2 of inodes per block. */
  inodeShift: number;
  freeBlocks: number;
  /** What the log's records carry. */
  uuid: Uint8Array;
  /** What metadata blocks carry. */
  metaUuid: Uint8Array;
}

export interface XfsRefusal {
  refusal: string;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function hasXfsMagic(bytes: Uint8Array): boolean {
  return bytes.length >= SUPERBLOCK_BYTES && viewOf(bytes).getUint32(0) === MAGIC;
}

/** True when the little-endian CRC-32C at `at` fits all other bytes. */
export function hasGoodChecksum(bytes: Uint8Array, at: number): boolean {
  const blanked = Uint8Array.from(bytes);
  blanked.fill(0, at, at + 4);
  return crc32c(blanked) === viewOf(bytes).getUint32(at, true);
}

function decode(bytes: Uint8Array, checksums: boolean): XfsSuperblock {
  const view = viewOf(bytes);
  const u64 = (at: number): number => Number(view.getBigUint64(at));
  const uuid = bytes.slice(32, 48);
  const ownMetaUuid = checksums && (view.getUint32(216) & INCOMPAT_META_UUID) !== 0;
  return {
    checksums,
    blockSize: view.getUint32(4),
    sectorSize: view.getUint16(102),
    blocks: u64(8),
    groupBlocks: view.getUint32(84),
    groups: view.getUint32(88),
    groupShift: view.getUint8(124),
    logStart: u64(48),
    logBlocks: view.getUint32(96),
    rootInode: u64(56),
    inodeShift: view.getUint8(123),
    freeBlocks: u64(144),
    uuid,
    metaUuid: ownMetaUuid ? bytes.slice(248, 264) : uuid,
  };
}

function featureRefusal(view: DataView, checksums: boolean): string | undefined {
  const version = view.getUint16(100);
  const features2 = view.getUint32(200);
  if (view.getUint8(126) !== 0) return 'mkfs.xfs or xfs_growfs did not finish';
  if (view.getBigUint64(16) !== 0n) return 'it has a realtime section, which is not understood';
  if (view.getBigUint64(48) === 0n) return 'its log is on another device';
  if (version & VERSION_SHARED || !(version & VERSION_MORE) || features2 & ~KNOWN_FEATURES2)
    return 'it has features that are not understood';
  if (!(features2 & FEATURES2_LAZY_COUNT)) return 'it counts free space in an old way';
  if (!checksums) return undefined;
  const incompat = view.getUint32(216);
  if (incompat & INCOMPAT_NEEDS_REPAIR) return 'it asks for xfs_repair';
  if (incompat & ~KNOWN_INCOMPAT || view.getUint32(212) & ~KNOWN_RO_COMPAT)
    return 'it has features that are not understood';
  return view.getUint32(220) === 0 ? undefined : 'not cleanly unmounted: its log has to be replayed first';
}

function shapeRefusal(sb: XfsSuperblock, view: DataView, volumeBytes: number): string | undefined {
  const { blockSize, sectorSize, blocks, groupBlocks, groups, groupShift } = sb;
  if (!isPowerOfTwo(blockSize) || blockSize > 64 * KiB || blockSize !== 2 ** view.getUint8(120))
    return 'impossible block size';
  if (!isPowerOfTwo(sectorSize) || sectorSize < 512 || sectorSize > blockSize)
    return 'impossible sector size';
  if (!(blocks > 0 && blocks <= Math.floor(volumeBytes / blockSize)))
    return `it has ${blocks} blocks, more than its volume`;
  if (groupBlocks * blockSize < MIN_GROUP_BYTES && groups > 1) return 'impossible size of its groups';
  if (groups !== Math.ceil(blocks / groupBlocks)) return 'its number of groups does not fit its size';
  if (groupShift > 31 || groupBlocks > 2 ** groupShift || groupBlocks <= 2 ** groupShift / 2)
    return 'impossible size of its groups';
  if (sb.inodeShift > 8 || sb.inodeShift !== Math.log2(blockSize / view.getUint16(104)))
    return 'impossible inode size';
  if (sb.freeBlocks > blocks) return 'more free blocks than blocks';
  const log = groupAndBlock(sb, sb.logStart);
  if (sb.logBlocks === 0 || log.group >= groups || log.block + sb.logBlocks > groupLength(sb, log.group))
    return 'its log lies outside';
  if (groupAndBlock(sb, rootInodeBlock(sb)).group >= groups) return 'its root lies outside';
  return undefined;
}

/** Splits a block number of the file system. */
export function groupAndBlock(sb: XfsSuperblock, block: number): { group: number; block: number } {
  const size = 2 ** sb.groupShift;
  return { group: Math.floor(block / size), block: block % size };
}

/** The block number of the file system that holds the root folder's inode. */
export function rootInodeBlock(sb: XfsSuperblock): number {
  return Math.floor(sb.rootInode / 2 ** sb.inodeShift);
}

/** Blocks of a group; the last one may be shorter. */
export function groupLength(sb: XfsSuperblock, group: number): number {
  return Math.min(sb.groupBlocks, sb.blocks - group * sb.groupBlocks);
}

/**
 * Decodes and judges a primary superblock.
 * @param bytes SUPERBLOCK_BYTES of them or, for the checksum, a whole sector of the file system
 * @param volumeBytes length of the volume
 */
export function decodeXfsSuperblock(bytes: Uint8Array, volumeBytes: number): XfsSuperblock | XfsRefusal {
  const view = viewOf(bytes);
  const version = view.getUint16(100) & VERSION_MASK;
  if (version !== 4 && version !== 5)
    return { refusal: `it is of version ${version}, which is not understood` };
  if (version === 5 && !hasGoodChecksum(bytes, CRC_AT))
    return { refusal: 'the checksum of its superblock is wrong' };
  const sb = decode(bytes, version === 5);
  const refusal = featureRefusal(view, sb.checksums) ?? shapeRefusal(sb, view, volumeBytes);
  return refusal === undefined ? sb : { refusal };
}

/** Bytes per sector as a superblock claims, for reading as much as its checksum covers. */
export function claimedSectorSize(bytes: Uint8Array): number | undefined {
  const size = viewOf(bytes).getUint16(102);
  return isPowerOfTwo(size) && size >= SUPERBLOCK_BYTES && size <= 32 * KiB ? size : undefined;
}

/** Numbers that the copy in every group has in common with the primary superblock. */
export function sameXfsShape(copy: Uint8Array, primary: Uint8Array): boolean {
  const fields = [0, 4, 48, 52, 84, 96];
  return fields.every((at) => viewOf(copy).getUint32(at) === viewOf(primary).getUint32(at));
}
