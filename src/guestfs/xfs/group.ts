/**
 * The headers of one XFS allocation group: where its free-space trees begin and what they must add up to.
 *
 * Invariant: a header is handed out only when its magic, place, length and (version 5) checksum and UUID
 * are right. The blocks it lists as in use are for checking that no tree calls them free.
 *
 * Source: XFS Algorithms & Data Structures, "AG Free Space Management", "AG Inode Management".
 */
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { viewOf } from '../volume-bytes.js';
import {
  groupAndBlock,
  groupLength,
  hasGoodChecksum,
  rootInodeBlock,
  sameXfsShape,
  type XfsSuperblock,
} from './superblock.js';

const AGF = { sector: 1, magic: 0x58414746, crc: 216, uuid: 64 } as const;
const AGI = {
  sector: 2,
  magic: 0x58414749,
  crc: 312,
  uuid: 296,
  unlinked: 40,
  buckets: 64,
  freeRoot: 328,
} as const;
const AGFL = { sector: 3, magic: 0x5841464c, crc: 32, uuid: 8, header: 36 } as const;
const HEADER_SECTORS = 4;
const NO_INODE = 0xffffffff;
/** Deeper trees need more blocks than a group has. */
const MAX_LEVELS = 9;

/** A run of blocks of the group. */
export interface GroupRun {
  first: number;
  count: number;
}

export interface GroupHeader {
  group: number;
  /** Blocks. */
  length: number;
  byBlock: { root: number; levels: number };
  bySize: { root: number; levels: number };
  freeBlocks: number;
  longest: number;
  /** What the group adds to the superblock's count of free blocks. */
  counted: number;
  /** Blocks that are certainly in use. */
  inUse: GroupRun[];
}

interface Place {
  read: ReadBytes;
  sb: XfsSuperblock;
  group: number;
}

/** Reads one of the group's header sectors and checks what they have in common. */
async function sectorOf(
  { read, sb, group }: Place,
  kind: { sector: number; magic: number; crc: number; uuid: number },
  name: string,
): Promise<DataView> {
  const bytes = await read(
    group * sb.groupBlocks * sb.blockSize + kind.sector * sb.sectorSize,
    sb.sectorSize,
  );
  const view = viewOf(bytes);
  if (view.getUint32(0) !== kind.magic) throw inconsistent(`the ${name} of group ${group} is missing`);
  if (sb.checksums) {
    if (!hasGoodChecksum(bytes, kind.crc))
      throw inconsistent(`the checksum of the ${name} of group ${group} is wrong`);
    if (Buffer.compare(bytes.subarray(kind.uuid, kind.uuid + 16), sb.metaUuid) !== 0)
      throw inconsistent(`the ${name} of group ${group} belongs to another file system`);
  }
  return view;
}

/** Blocks kept ready for the trees: in use as far as anybody else is concerned. */
async function freeList(place: Place, agf: DataView): Promise<GroupRun[]> {
  const { read, sb, group } = place;
  const header = sb.checksums ? AGFL.header : 0;
  const slots = Math.floor((sb.sectorSize - header) / 4);
  const [first, last, count] = [agf.getUint32(40), agf.getUint32(44), agf.getUint32(48)];
  if (first >= slots || last >= slots || count > slots)
    throw inconsistent(`the free list of group ${group} is damaged`);
  if (count > 0 && (first + count - 1) % slots !== last)
    throw inconsistent(`the free list of group ${group} is damaged`);
  const at = group * sb.groupBlocks * sb.blockSize + AGFL.sector * sb.sectorSize;
  const view = sb.checksums
    ? await sectorOf(place, AGFL, 'free list')
    : viewOf(await read(at, sb.sectorSize));
  if (sb.checksums && view.getUint32(4) !== group)
    throw inconsistent(`the free list of group ${group} belongs elsewhere`);
  return Array.from({ length: count }, (_, index) => ({
    first: view.getUint32(header + ((first + index) % slots) * 4),
    count: 1,
  }));
}

/** Roots of the inode trees. */
async function inodeTrees(place: Place, length: number): Promise<GroupRun[]> {
  const { sb, group } = place;
  const view = await sectorOf(place, AGI, 'inode header');
  if (view.getUint32(8) !== group || view.getUint32(12) !== length)
    throw inconsistent(`the inode header of group ${group} belongs elsewhere`);
  for (let bucket = 0; bucket < AGI.buckets; bucket += 1)
    if (view.getUint32(AGI.unlinked + bucket * 4) !== NO_INODE)
      throw inconsistent('not cleanly unmounted: it has files that were deleted while open');
  const roots = [view.getUint32(20)];
  // Without a tree of free inodes there is no root.
  if (sb.checksums && view.getUint32(AGI.freeRoot + 4) > 0) roots.push(view.getUint32(AGI.freeRoot));
  return roots.map((first) => ({ first, count: 1 }));
}

/** The log and the root folder, where they lie in this group. */
function landmarks({ sb, group }: Place): GroupRun[] {
  const log = groupAndBlock(sb, sb.logStart);
  const root = groupAndBlock(sb, rootInodeBlock(sb));
  return [
    ...(log.group === group ? [{ first: log.block, count: sb.logBlocks }] : []),
    ...(root.group === group ? [{ first: root.block, count: 1 }] : []),
  ];
}

/**
 * Reads and checks the headers of a group.
 * @param read bytes of the volume
 * @param primary the superblock's bytes, for comparing the group's copy
 * @throws IMAGE_CORRUPT (`inconsistent`)
 */
export async function readGroup(
  read: ReadBytes,
  sb: XfsSuperblock,
  group: number,
  primary: Uint8Array,
): Promise<GroupHeader> {
  const place: Place = { read, sb, group };
  const length = groupLength(sb, group);
  if (length * sb.blockSize < HEADER_SECTORS * sb.sectorSize)
    throw inconsistent(`group ${group} is too short`);
  const copy = await read(group * sb.groupBlocks * sb.blockSize, sb.sectorSize);
  if (!sameXfsShape(copy, primary))
    throw inconsistent(`the copy of its superblock in group ${group} differs`);
  const agf = await sectorOf(place, AGF, 'free-space header');
  if (agf.getUint32(4) !== 1 || agf.getUint32(8) !== group || agf.getUint32(12) !== length)
    throw inconsistent(`the free-space header of group ${group} belongs elsewhere`);
  const tree = (root: number, levels: number) => ({
    root: agf.getUint32(root),
    levels: agf.getUint32(levels),
  });
  const byBlock = tree(16, 28);
  const bySize = tree(20, 32);
  for (const { root, levels } of [byBlock, bySize])
    if (root >= length || levels === 0 || levels > MAX_LEVELS)
      throw inconsistent(`a free-space tree of group ${group} has an impossible root`);
  const freeBlocks = agf.getUint32(52);
  // Roots of reverse mappings and of shared extents, where there are such trees.
  const others = sb.checksums ? [tree(24, 36), tree(88, 92)].filter(({ levels }) => levels > 0) : [];
  const headers = Math.ceil((HEADER_SECTORS * sb.sectorSize) / sb.blockSize);
  return {
    group,
    length,
    byBlock,
    bySize,
    freeBlocks,
    longest: agf.getUint32(56),
    counted: freeBlocks + agf.getUint32(48) + agf.getUint32(60),
    inUse: [
      { first: 0, count: headers },
      ...others.map(({ root }) => ({ first: root, count: 1 })),
      ...(await freeList(place, agf)),
      ...(await inodeTrees(place, length)),
      ...landmarks(place),
    ],
  };
}
