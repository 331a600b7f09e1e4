/**
 * Free space of btrfs on one device: what no chunk has, and what in chunks no extent has.
 *
 * Invariant: `free` is answered only for a file system with nothing to replay, whose copies of the
 * superblock are from one commit, whose trees are whole as far as they are read (every chunk, every
 * extent) and whose extents add up to what each block group and the superblock say. The copies of the
 * superblock and the start of the device are never free. Walking the ranges checks all of it again.
 * Memory holds the chunks and one path of tree blocks.
 *
 * btrfs does not record that it was unmounted, because what it commits is whole at every moment. So this is
 * what the last commit leaves free; a machine that was saved while it ran is for the caller to notice.
 *
 * Deliberately not here: several devices, striped or mirrored profiles, checksums other than CRC-32C.
 */
import type { ByteRange } from '../../io/random-access-file.js';
import type { FreeSpaceAnswer, FreeSpaceReader, VolumeRange } from '../free-space.js';
import { inconsistent, keptIfInconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { viewOf, volumeBytes } from '../volume-bytes.js';
import { CHUNK_ITEM, type Chunk, ChunkMap, systemChunks } from './chunks.js';
import {
  type BtrfsSuperblock,
  decodeBtrfsSuperblock,
  hasBtrfsMagic,
  isSameCommit,
  RESERVED_BYTES,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_PLACES,
  SUPERBLOCK_ROOM,
} from './superblock.js';
import { FIRST_KEY, type Item, LAST_KEY, type TreeRoot, Trees } from './tree.js';

const KIND = 'btrfs';
const EXTENT_ITEM = 168;
const METADATA_ITEM = 169;
const BLOCK_GROUP_ITEM = 192;
const ROOT_ITEM = 132;
const EXTENT_TREE = 2n;
const BLOCK_GROUP_TREE = 11n;
const ROOT_ITEM_BYTES = 239;

interface FileSystem {
  sb: BtrfsSuperblock;
  volume: VolumeRange;
  trees: Trees;
  chunks: ChunkMap;
  extentRoot: TreeRoot;
  /** Where block groups are listed: the extent tree, or a tree of their own. */
  groupRoot: TreeRoot;
}

async function readChunks(sb: BtrfsSuperblock, read: ReadBytes, generation: bigint): Promise<ChunkMap> {
  const trees = new Trees(read, sb, systemChunks(sb));
  const map = new ChunkMap();
  for await (const { key, data } of trees.items({ ...sb.chunkRoot, generation }, FIRST_KEY, LAST_KEY))
    if (key.type === CHUNK_ITEM) map.add(sb, Number(key.offset), data);
  map.seal();
  return map;
}

async function findRoot(trees: Trees, sb: BtrfsSuperblock, tree: bigint): Promise<TreeRoot> {
  const from = { object: tree, type: ROOT_ITEM, offset: 0n };
  const until = { object: tree, type: ROOT_ITEM + 1, offset: 0n };
  let found: Item | undefined;
  for await (const item of trees.items({ ...sb.root, generation: sb.generation }, from, until)) found = item;
  if (!found || found.data.length < ROOT_ITEM_BYTES) throw inconsistent(`tree ${tree} is missing`);
  const view = viewOf(found.data);
  return {
    logical: Number(view.getBigUint64(176, true)),
    level: view.getUint8(238),
    generation: view.getBigUint64(160, true),
  };
}

/** What the block group of a chunk says is in use, in bytes. */
async function usedBytes({ trees, groupRoot }: FileSystem, chunk: Chunk): Promise<number> {
  const from = { object: BigInt(chunk.logical), type: BLOCK_GROUP_ITEM, offset: 0n };
  const until = { ...from, type: BLOCK_GROUP_ITEM + 1 };
  const found: Item[] = [];
  for await (const item of trees.items(groupRoot, from, until)) found.push(item);
  const [group] = found;
  if (!group || found.length !== 1 || Number(group.key.offset) !== chunk.length || group.data.length < 24)
    throw inconsistent(`the block group at ${chunk.logical} is missing`);
  return Number(viewOf(group.data).getBigUint64(0, true));
}

/** Free logical ranges of a chunk, in order. */
async function* freeInChunk(fs: FileSystem, chunk: Chunk): AsyncGenerator<ByteRange> {
  const { sb, trees, extentRoot } = fs;
  const end = chunk.logical + chunk.length;
  const from = { object: BigInt(chunk.logical), type: 0, offset: 0n };
  const until = { object: BigInt(end), type: 0, offset: 0n };
  let next = chunk.logical;
  let used = 0;
  for await (const { key } of trees.items(extentRoot, from, until)) {
    if (key.type !== EXTENT_ITEM && key.type !== METADATA_ITEM) continue;
    const start = Number(key.object);
    const length = key.type === METADATA_ITEM ? sb.nodeSize : Number(key.offset);
    const fits = start >= next && length > 0 && start + length <= end;
    if (!fits || start % sb.sectorSize !== 0 || length % sb.sectorSize !== 0)
      throw inconsistent(`the extent ${start}+${length} overlaps another one or lies outside its chunk`);
    if (start > next) yield { offset: next, length: start - next };
    next = start + length;
    used += length;
  }
  if (next < end) yield { offset: next, length: end - next };
  const expected = await usedBytes(fs, chunk);
  if (used !== expected)
    throw inconsistent(`the block group at ${chunk.logical} uses ${expected} bytes, its extents ${used}`);
}

/** Free ranges of the device, in order, the reserved places among them. */
async function* unreserved(fs: FileSystem): AsyncGenerator<ByteRange> {
  let next = RESERVED_BYTES;
  for (const { offset, length, chunk } of fs.chunks.pieces) {
    if (offset > next) yield { offset: next, length: offset - next };
    next = offset + length;
    if (!chunk) continue;
    for await (const free of freeInChunk(fs, chunk))
      yield { offset: offset + (free.offset - chunk.logical), length: free.length };
  }
  if (next < fs.sb.deviceBytes) yield { offset: next, length: fs.sb.deviceBytes - next };
}

/** The parts of a range that are not kept for copies of the superblock. */
function* withoutSuperblocks(range: ByteRange): Generator<ByteRange> {
  let { offset } = range;
  const end = offset + range.length;
  for (const place of SUPERBLOCK_PLACES) {
    if (place >= end || place + SUPERBLOCK_ROOM <= offset) continue;
    if (place > offset) yield { offset, length: place - offset };
    offset = Math.min(place + SUPERBLOCK_ROOM, end);
  }
  if (offset < end) yield { offset, length: end - offset };
}

async function* freeRanges(fs: FileSystem): AsyncGenerator<ByteRange> {
  let open: ByteRange | undefined;
  for await (const range of unreserved(fs)) {
    for (const { offset, length } of withoutSuperblocks(range)) {
      if (open && open.offset + open.length === offset) {
        open.length += length;
        continue;
      }
      if (open) yield { offset: fs.volume.offset + open.offset, length: open.length };
      open = { offset, length };
    }
  }
  if (open) yield { offset: fs.volume.offset + open.offset, length: open.length };
}

/** Blocks that are certainly in use must be extents, and everything must add up. */
async function checkExtents(fs: FileSystem): Promise<void> {
  const { sb, trees, chunks, extentRoot, groupRoot } = fs;
  const needed = new Set([sb.root, sb.chunkRoot, extentRoot, groupRoot].map(({ logical }) => logical));
  let used = 0;
  for (const chunk of chunks.chunks) used += await usedBytes(fs, chunk);
  if (used !== sb.usedBytes)
    throw inconsistent(`its block groups use ${used} bytes, its superblock says ${sb.usedBytes}`);
  for (const logical of needed) {
    const object = BigInt(logical);
    const until = { object: object + 1n, type: 0, offset: 0n };
    let found = false;
    for await (const { key } of trees.items(extentRoot, { object, type: EXTENT_ITEM, offset: 0n }, until))
      found ||= key.type === EXTENT_ITEM || key.type === METADATA_ITEM;
    if (!found) throw inconsistent(`its root block at ${logical} is called free`);
  }
}

async function judge(read: ReadBytes, volume: VolumeRange, primary: Uint8Array): Promise<FreeSpaceAnswer> {
  const sb = decodeBtrfsSuperblock(primary, volume.length);
  if ('refusal' in sb) throw inconsistent(sb.refusal);
  for (const place of SUPERBLOCK_PLACES.slice(1)) {
    if (place + SUPERBLOCK_ROOM > sb.deviceBytes) continue;
    if (!isSameCommit(await read(place, SUPERBLOCK_BYTES), primary))
      throw inconsistent('the copies of its superblock differ');
  }
  const chunks = await readChunks(sb, read, viewOf(primary).getBigUint64(164, true));
  const trees = new Trees(read, sb, chunks);
  const extentRoot = await findRoot(trees, sb, EXTENT_TREE);
  const groupRoot = sb.hasBlockGroupTree ? await findRoot(trees, sb, BLOCK_GROUP_TREE) : extentRoot;
  const fs: FileSystem = { sb, volume, trees, chunks, extentRoot, groupRoot };
  await checkExtents(fs);
  let freeBytes = 0;
  for await (const { length } of freeRanges(fs)) freeBytes += length;
  return { status: 'free', space: { kind: KIND, freeBytes, ranges: () => freeRanges(fs) } };
}

/** Reads btrfs. */
export const btrfsFreeSpace: FreeSpaceReader = async (readDisk, volume) => {
  if (volume.length < SUPERBLOCK_PLACES[0] + SUPERBLOCK_BYTES) return { status: 'other' };
  const read = volumeBytes(readDisk, volume);
  const primary = await read(SUPERBLOCK_PLACES[0], SUPERBLOCK_BYTES);
  if (!hasBtrfsMagic(primary)) return { status: 'other' };
  return keptIfInconsistent(KIND, () => judge(read, volume, primary));
};
