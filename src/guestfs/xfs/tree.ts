/**
 * The free-space trees of an XFS allocation group: extents of free blocks, by block or by size.
 *
 * Invariant: every block of a tree lies in the group, has the expected level, magic and (version 5) place,
 * owner, UUID and checksum; extents of the tree by block rise without touching, so that trees that point
 * at themselves end. At most MAX_TREE_BLOCKS blocks are read.
 *
 * Source: XFS Algorithms & Data Structures, "AG Free Space B+trees"; Linux, fs/xfs/libxfs/xfs_format.h.
 */
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { viewOf } from '../volume-bytes.js';
import type { GroupHeader, GroupRun } from './group.js';
import { hasGoodChecksum, type XfsSuperblock } from './superblock.js';

const LONG = { header: 56, place: 16, uuid: 32, owner: 48, crc: 52 } as const;
const SHORT_HEADER = 16;
const MAGIC = {
  byBlock: { checksums: 0x41423342, plain: 0x41425442 },
  bySize: { checksums: 0x41423343, plain: 0x41425443 },
} as const;
const RECORD = 8;
const POINTER = 4;
/** Disk addresses count in these, whatever the sectors are. Bytes. */
const ADDRESS_UNIT = 512;
/** Ours: bounds memory and time. More than a group of 1 TiB has with an extent in each 16 KiB. */
const MAX_TREE_BLOCKS = 2 ** 18;

export type TreeKind = keyof typeof MAGIC;

export interface TreeWalk {
  read: ReadBytes;
  sb: XfsSuperblock;
  header: GroupHeader;
  kind: TreeKind;
  /** Blocks of the tree met so far. */
  blocks: number[];
}

async function readBlock(walk: TreeWalk, block: number, level: number): Promise<DataView> {
  const { sb, header, kind } = walk;
  const damaged = inconsistent(`a free-space tree of group ${header.group} is damaged at block ${block}`);
  if (block >= header.length || walk.blocks.push(block) > MAX_TREE_BLOCKS) throw damaged;
  const at = (header.group * sb.groupBlocks + block) * sb.blockSize;
  const bytes = await walk.read(at, sb.blockSize);
  const view = viewOf(bytes);
  const magic = MAGIC[kind][sb.checksums ? 'checksums' : 'plain'];
  if (view.getUint32(0) !== magic || view.getUint16(4) !== level) throw damaged;
  if (sb.checksums) {
    const right =
      hasGoodChecksum(bytes, LONG.crc) &&
      Number(view.getBigUint64(LONG.place)) === at / ADDRESS_UNIT &&
      view.getUint32(LONG.owner) === header.group &&
      Buffer.compare(bytes.subarray(LONG.uuid, LONG.uuid + 16), sb.metaUuid) === 0;
    if (!right) throw damaged;
  }
  return view;
}

async function* walkBlock(walk: TreeWalk, block: number, level: number): AsyncGenerator<GroupRun> {
  const { sb } = walk;
  const view = await readBlock(walk, block, level);
  const head = sb.checksums ? LONG.header : SHORT_HEADER;
  const room = Math.floor((sb.blockSize - head) / (level === 0 ? RECORD : RECORD + POINTER));
  const entries = view.getUint16(6);
  // Only a group without free space has an empty block: the root.
  if (entries > room || (entries === 0 && walk.blocks.length > 1))
    throw inconsistent(`a free-space tree of group ${walk.header.group} is damaged at block ${block}`);
  for (let index = 0; index < entries; index += 1) {
    if (level === 0) {
      const at = head + index * RECORD;
      yield { first: view.getUint32(at), count: view.getUint32(at + 4) };
    } else {
      const at = head + room * RECORD + index * POINTER;
      yield* walkBlock(walk, view.getUint32(at), level - 1);
    }
  }
}

/** The extents of a tree in its order, each inside the group. @throws IMAGE_CORRUPT (`inconsistent`) */
export async function* freeExtents(walk: TreeWalk): AsyncGenerator<GroupRun> {
  const { header, kind } = walk;
  const { root, levels } = header[kind];
  let end = 0;
  for await (const run of walkBlock(walk, root, levels - 1)) {
    const { first, count } = run;
    const inside = count > 0 && first > 0 && first + count <= header.length;
    // Free extents that touch would have been joined.
    if (!inside || (kind === 'byBlock' && end > 0 && first <= end))
      throw inconsistent(
        `a free-space tree of group ${header.group} has the impossible extent ${first}+${count}`,
      );
    if (kind === 'byBlock') end = first + count;
    yield run;
  }
}
