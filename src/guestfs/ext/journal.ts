/**
 * Whether ext3/4 is in use, beyond what its superblock says: the journal must be empty, a multi-mount
 * block must say that nobody has it mounted.
 *
 * Invariant: answers with the blocks that these structures occupy, which the bitmaps must have marked.
 *
 * Source: Linux, Documentation/filesystems/ext4, "Journal (jbd2)", "Multiple Mount Protection".
 */
import { inconsistent } from '../inconsistent.js';
import type { GroupDescriptor, ReadBlocks } from './descriptors.js';
import { inodeBlocks } from './inode-blocks.js';
import type { BlockRun } from './layout.js';
import { COMPAT, INCOMPAT, type Superblock } from './superblock.js';

const JOURNAL_MAGIC = 0xc03b3998;
/** Superblocks of versions 1 and 2. */
const JOURNAL_TYPES = [3, 4];
const JOURNAL = { type: 4, start: 28, error: 32 } as const;
const MMP_MAGIC = 0x004d4d50;
const MMP_CLEAN = 0xff4d4d50;

async function readInode(
  sb: Superblock,
  first: GroupDescriptor,
  number: number,
  read: ReadBlocks,
): Promise<Uint8Array> {
  const at = (number - 1) * sb.inodeSize;
  const block = await read(first.inodeTable + Math.floor(at / sb.blockSize), 1);
  const within = at % sb.blockSize;
  return block.subarray(within, within + sb.inodeSize);
}

async function journalRuns(sb: Superblock, first: GroupDescriptor, read: ReadBlocks): Promise<BlockRun[]> {
  if (!(sb.compat & COMPAT.hasJournal)) return [];
  if (sb.journalInode === 0) throw inconsistent('its journal is on another device');
  if (sb.journalInode > sb.inodesPerGroup) throw inconsistent('an impossible journal inode');
  const inode = await readInode(sb, first, sb.journalInode, read);
  const { runs, firstBlock } = await inodeBlocks(sb, inode, read);
  if (firstBlock === undefined) throw inconsistent('its journal has no blocks');
  const block = await read(firstBlock, 1);
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  if (view.getUint32(0) !== JOURNAL_MAGIC || !JOURNAL_TYPES.includes(view.getUint32(JOURNAL.type)))
    throw inconsistent('its journal has no header');
  if (view.getUint32(JOURNAL.start) !== 0)
    throw inconsistent('not cleanly unmounted: its journal is not empty');
  if (view.getUint32(JOURNAL.error) !== 0) throw inconsistent('its journal records an error');
  return runs;
}

async function mmpRuns(sb: Superblock, read: ReadBlocks): Promise<BlockRun[]> {
  if (!(sb.incompat & INCOMPAT.mmp)) return [];
  const place = sb.mmpBlock;
  if (!(place > sb.firstDataBlock && place < sb.blocks))
    throw inconsistent('an impossible multi-mount block');
  const block = await read(place, 1);
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  if (view.getUint32(0, true) !== MMP_MAGIC) throw inconsistent('its multi-mount block is damaged');
  if (view.getUint32(4, true) !== MMP_CLEAN) throw inconsistent('a computer has it mounted');
  return [{ first: place, count: 1 }];
}

/**
 * Runs of blocks that the journal and the multi-mount block occupy, sorted.
 * @param first the descriptor of group 0
 * @throws IMAGE_CORRUPT (`inconsistent`) when they say that the file system is in use, or are damaged
 */
export async function idleStructures(
  sb: Superblock,
  first: GroupDescriptor,
  read: ReadBlocks,
): Promise<BlockRun[]> {
  const runs = [...(await journalRuns(sb, first, read)), ...(await mmpRuns(sb, read))];
  return runs.sort((a, b) => a.first - b.first);
}
