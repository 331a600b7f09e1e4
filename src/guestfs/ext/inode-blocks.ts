/**
 * Where an ext2/3/4 inode keeps its contents, as runs of blocks: for the journal, which must not be free.
 *
 * Invariant: every block number is inside the file system, every loop is bounded by MAX_NODES reads, and
 * depth falls with each step, so trees that point at themselves end. Blocks of the tree itself are included.
 *
 * Source: Linux, Documentation/filesystems/ext4, "The Contents of inode.i_block", "Extent Tree".
 */
import { inconsistent } from '../inconsistent.js';
import type { ReadBlocks } from './descriptors.js';
import type { BlockRun } from './layout.js';
import type { Superblock } from './superblock.js';

const FLAGS_AT = 32;
const BLOCK_AT = 40;
const BLOCK_BYTES = 60;
const LINKS_AT = 26;
const EXTENTS_FLAG = 0x80000;
const EXTENT_MAGIC = 0xf30a;
const MAX_DEPTH = 5;
/** Ours: a journal of 1 GiB in blocks of 1 KiB, mapped block by block, has 4113 of them. */
const MAX_NODES = 8192;
/** Ours: bounds memory. */
const MAX_RUNS = 2 ** 18;
const DIRECT = 12;

export interface InodeBlocks {
  /** Contents and the blocks that map them, in the order of the map. */
  runs: BlockRun[];
  /** The first block of the contents. */
  firstBlock: number | undefined;
}

interface Walk extends InodeBlocks {
  sb: Superblock;
  read: ReadBlocks;
  nodes: number;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function take(walk: Walk, first: number, count: number): void {
  if (first <= walk.sb.firstDataBlock || first + count > walk.sb.blocks)
    throw inconsistent(`its journal lies outside the file system (block ${first})`);
  const last = walk.runs.at(-1);
  if (last && last.first + last.count === first) last.count += count;
  else if (walk.runs.push({ first, count }) > MAX_RUNS)
    throw inconsistent('its journal is in too many pieces');
}

function takeContent(walk: Walk, first: number, count: number): void {
  take(walk, first, count);
  walk.firstBlock ??= first;
}

async function node(walk: Walk, block: number): Promise<Uint8Array> {
  walk.nodes += 1;
  if (walk.nodes > MAX_NODES) throw inconsistent('the map of its journal has no end');
  take(walk, block, 1);
  return walk.read(block, 1);
}

async function walkExtents(walk: Walk, bytes: Uint8Array, depth: number | undefined): Promise<void> {
  const view = viewOf(bytes);
  const entries = view.getUint16(2, true);
  const own = view.getUint16(6, true);
  if (view.getUint16(0, true) !== EXTENT_MAGIC || 12 + entries * 12 > bytes.length || own > MAX_DEPTH)
    throw inconsistent('the map of its journal is damaged');
  if (depth !== undefined && own !== depth) throw inconsistent('the map of its journal is damaged');
  for (let index = 0; index < entries; index += 1) {
    const at = 12 + index * 12;
    if (own > 0) {
      const child = view.getUint32(at + 4, true) + view.getUint16(at + 8, true) * 2 ** 32;
      await walkExtents(walk, await node(walk, child), own - 1);
    } else {
      const length = view.getUint16(at + 4, true);
      // Above 2^15: allocated, but not written yet.
      const count = length > 0x8000 ? length - 0x8000 : length;
      takeContent(walk, view.getUint16(at + 6, true) * 2 ** 32 + view.getUint32(at + 8, true), count);
    }
  }
}

async function walkPointers(walk: Walk, bytes: Uint8Array, level: number): Promise<void> {
  const view = viewOf(bytes);
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const block = view.getUint32(at, true);
    if (block === 0) continue;
    if (level === 0) takeContent(walk, block, 1);
    else await walkPointers(walk, await node(walk, block), level - 1);
  }
}

/**
 * The blocks of an inode.
 * @param inode its bytes, 128 or more
 * @throws IMAGE_CORRUPT (`inconsistent`)
 */
export async function inodeBlocks(sb: Superblock, inode: Uint8Array, read: ReadBlocks): Promise<InodeBlocks> {
  const view = viewOf(inode);
  if (view.getUint16(LINKS_AT, true) === 0) throw inconsistent('the inode of its journal is not in use');
  const map = inode.subarray(BLOCK_AT, BLOCK_AT + BLOCK_BYTES);
  const walk: Walk = { sb, read, nodes: 0, runs: [], firstBlock: undefined };
  if (view.getUint32(FLAGS_AT, true) & EXTENTS_FLAG) {
    await walkExtents(walk, map, undefined);
    return walk;
  }
  await walkPointers(walk, map.subarray(0, DIRECT * 4), 0);
  for (const level of [1, 2, 3]) {
    const at = (DIRECT + level - 1) * 4;
    await walkPointers(walk, map.subarray(at, at + 4), level);
  }
  return walk;
}
