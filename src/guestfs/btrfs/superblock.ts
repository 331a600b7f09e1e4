/**
 * The btrfs superblock: decoded, and judged by itself. Pure.
 *
 * Invariant: a decoded superblock belongs to a file system of one device with checksums that we compute
 * (CRC-32C), without anything to replay and without features that change where things lie.
 *
 * Source: btrfs documentation, "On-disk Format" (btrfs.readthedocs.io); Linux, include/uapi/linux/btrfs_tree.h.
 */

import { isPowerOfTwo, KiB, MiB } from '../../base/bytes.js';
import { crc32c } from '../../base/crc32c.js';

/** Where the copies lie, and how much around each is never allocated. Bytes of the device. */
export const SUPERBLOCK_PLACES = [64 * KiB, 64 * MiB, 256 * 1024 * MiB] as const;
export const SUPERBLOCK_BYTES = 4 * KiB;
export const SUPERBLOCK_ROOM = 64 * KiB;
/** Never allocated at the start of a device. Bytes. */
export const RESERVED_BYTES = MiB;
const MAGIC = '_BHRfS_M';
const CHECKSUM_BYTES = 32;

/** Bits 0 to 9: backrefs, default subvolume, mixed groups, compressions, large metadata, RAID56, skinny, holes. */
const KNOWN_INCOMPAT = 0x3ffn | (1n << 10n) | (1n << 11n);
const INCOMPAT_RAID56 = 1n << 7n;
const INCOMPAT_METADATA_UUID = 1n << 10n;
const INCOMPAT_RAID1C34 = 1n << 11n;
/** Free-space tree, its validity, verity, block-group tree. */
const KNOWN_COMPAT_RO = 0xfn;
const COMPAT_RO_BLOCK_GROUP_TREE = 0x8n;
const FLAG_WRITTEN = 1n;

export interface BtrfsSuperblock {
  /** What tree blocks carry. */
  uuid: Uint8Array;
  generation: bigint;
  root: { logical: number; level: number };
  chunkRoot: { logical: number; level: number };
  /** Bytes. */
  deviceBytes: number;
  deviceId: bigint;
  usedBytes: number;
  sectorSize: number;
  nodeSize: number;
  hasBlockGroupTree: boolean;
  /** Chunks that hold the chunk tree. */
  systemChunks: Uint8Array;
}

export interface BtrfsRefusal {
  refusal: string;
}

const SYSTEM_CHUNKS = { at: 811, room: 2048 } as const;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function hasBtrfsMagic(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(64, 72)).toString('latin1') === MAGIC;
}

/** True when the CRC-32C at the start of a superblock or tree block fits the rest. */
export function hasGoodChecksum(bytes: Uint8Array): boolean {
  return crc32c(bytes.subarray(CHECKSUM_BYTES)) === viewOf(bytes).getUint32(0, true);
}

function featureRefusal(view: DataView): string | undefined {
  const incompat = view.getBigUint64(188, true);
  if (view.getUint16(196, true) !== 0) return 'it has checksums that are not understood';
  if (incompat & ~KNOWN_INCOMPAT || incompat & (INCOMPAT_RAID56 | INCOMPAT_RAID1C34))
    return 'it has features that are not understood';
  if (view.getBigUint64(180, true) & ~KNOWN_COMPAT_RO) return 'it has features that are not understood';
  if (view.getBigUint64(56, true) !== FLAG_WRITTEN) return 'it records errors, or is no ordinary file system';
  if (view.getBigUint64(136, true) !== 1n) return 'it spans several devices';
  if (view.getBigUint64(96, true) !== 0n) return 'not cleanly unmounted: its log has to be replayed first';
  return undefined;
}

function shapeRefusal(sb: BtrfsSuperblock, view: DataView, volumeBytes: number): string | undefined {
  if (Number(view.getBigUint64(48, true)) !== SUPERBLOCK_PLACES[0]) return 'its superblock is a copy';
  for (const size of [sb.sectorSize, sb.nodeSize])
    if (!isPowerOfTwo(size) || size < 4 * KiB || size > 64 * KiB) return 'impossible sizes of blocks';
  if (!(sb.deviceBytes <= volumeBytes && sb.deviceBytes >= 2 * MiB)) return 'it is larger than its volume';
  if (Number(view.getBigUint64(112, true)) !== sb.deviceBytes) return 'contradictory sizes';
  if (sb.root.level > 7 || sb.chunkRoot.level > 7) return 'impossible trees';
  return view.getUint32(160, true) <= SYSTEM_CHUNKS.room ? undefined : 'impossible system chunks';
}

/** Decodes and judges the primary superblock (SUPERBLOCK_BYTES). */
export function decodeBtrfsSuperblock(
  bytes: Uint8Array,
  volumeBytes: number,
): BtrfsSuperblock | BtrfsRefusal {
  const view = viewOf(bytes);
  const refusal = featureRefusal(view);
  if (view.getUint16(196, true) === 0 && !hasGoodChecksum(bytes))
    return { refusal: 'the checksum of its superblock is wrong' };
  if (refusal !== undefined) return { refusal };
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  const metadataUuid = (view.getBigUint64(188, true) & INCOMPAT_METADATA_UUID) !== 0n;
  const sb: BtrfsSuperblock = {
    uuid: metadataUuid ? bytes.slice(571, 587) : bytes.slice(32, 48),
    generation: view.getBigUint64(72, true),
    root: { logical: u64(80), level: view.getUint8(198) },
    chunkRoot: { logical: u64(88), level: view.getUint8(199) },
    deviceId: view.getBigUint64(201, true),
    deviceBytes: u64(209),
    usedBytes: u64(120),
    sectorSize: view.getUint32(144, true),
    nodeSize: view.getUint32(148, true),
    hasBlockGroupTree: (view.getBigUint64(180, true) & COMPAT_RO_BLOCK_GROUP_TREE) !== 0n,
    systemChunks: bytes.slice(
      SYSTEM_CHUNKS.at,
      SYSTEM_CHUNKS.at + Math.min(view.getUint32(160, true), SYSTEM_CHUNKS.room),
    ),
  };
  const shape = shapeRefusal(sb, view, volumeBytes);
  return shape === undefined ? sb : { refusal: shape };
}

/** Is this a copy of the superblock from the same commit? */
export function isSameCommit(copy: Uint8Array, primary: Uint8Array): boolean {
  return (
    hasBtrfsMagic(copy) &&
    hasGoodChecksum(copy) &&
    Buffer.compare(copy.subarray(32, 48), primary.subarray(32, 48)) === 0 &&
    Buffer.compare(copy.subarray(72, 96), primary.subarray(72, 96)) === 0
  );
}
