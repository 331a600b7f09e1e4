/**
 * Changing the size of the virtual disk (MS-VHDX 2.6.2.2, 2.5).
 *
 * Invariant: the size item changes last when the disk grows and together with the entries it makes superfluous
 * when it shrinks, each through one log entry. Whatever is prepared before (zeroed tails, entries behind the
 * last block, a larger table) is invisible: entries past the last block mean nothing. A block's index does
 * not depend on the disk's size, so nothing else moves.
 *
 * Not here: whether a guest's partitions fit the new size.
 */
import { MiB, roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { ResizeOptions } from '../editable-image.js';
import { BAT_ENTRY_LENGTH, type BatGeometry, BLOCK_STATE, batGeometry, neededEntries } from './bat.js';
import { clearEntries, moveBat } from './bat-space.js';
import { BlockTable } from './block-table.js';
import { type EditContext, metadataPages } from './edit-context.js';
import { ITEM_GUID, MAX_VIRTUAL_SIZE } from './layout.js';
import { overwriteItem, sectorsTouched, u64Item } from './metadata-update.js';
import { SpaceMap } from './space-map.js';

/** Changes of sectors besides the entries: the size item. */
const SIZE_SECTORS = sectorsTouched(8);

/** @throws INVALID_ARGUMENT, TARGET_TOO_SMALL (more than 64 TiB) */
export function assertNewSize(context: EditContext, virtualSize: number): void {
  const { path } = context.file;
  const sector = context.structures.metadata.logicalSectorSize;
  if (!Number.isSafeInteger(virtualSize) || virtualSize <= 0 || virtualSize % sector !== 0) {
    const message = `${virtualSize} bytes is not a whole number of sectors of ${sector} bytes`;
    const hint = `Choose a size that is a multiple of ${sector}.`;
    throw new VhdkitError('INVALID_ARGUMENT', message, { operation: 'resize', context: { path }, hint });
  }
  if (virtualSize <= MAX_VIRTUAL_SIZE) return;
  const message = `A VHDX can hold at most 64 TiB, not ${virtualSize} bytes`;
  const hint = 'Split the disk, or keep it raw.';
  throw new VhdkitError('TARGET_TOO_SMALL', message, { operation: 'resize', context: { path }, hint });
}

/** Assumes a size that was checked, a session that has begun and nothing that waits. Durable when it returns. */
export async function resizeDisk(
  context: EditContext,
  virtualSize: number,
  options: ResizeOptions,
): Promise<void> {
  const before = context.structures.geometry;
  const after = batGeometry(virtualSize, before.blockSize, before.logicalSectorSize);
  if (virtualSize < before.virtualSize) await shrink(context, before, after);
  else if (virtualSize > before.virtualSize) await grow(context, before, after, options.parentSize ?? 0);
}

async function setSize(context: EditContext, after: BatGeometry): Promise<void> {
  await overwriteItem(metadataPages(context), ITEM_GUID.virtualDiskSize, u64Item(after.virtualSize));
}

function adoptSize(context: EditContext, geometry: BatGeometry): void {
  const { metadata } = context.structures;
  context.adopt({ geometry, metadata: { ...metadata, virtualSize: geometry.virtualSize } });
}

/** One log entry clears the entries behind the new end, however many, and changes the size. */
async function shrink(context: EditContext, before: BatGeometry, after: BatGeometry): Promise<void> {
  const freed = await placesBehind(context, before, after);
  const cleared = await clearEntries(context, after, before, SIZE_SECTORS);
  await setSize(context, after);
  await context.write(cleared.updates);
  cleared.done();
  adoptSize(context, after);
  await context.space.giveBack(freed);
}

/** The space of blocks and sector bitmaps that only the larger disk has. */
async function placesBehind(
  context: EditContext,
  before: BatGeometry,
  after: BatGeometry,
): Promise<SpaceMap> {
  const table = new BlockTable(context.pages, before, context.structures.regions.bat.offset);
  const freed = new SpaceMap();
  for (let block = after.blocks; ; block += 1) {
    block = await table.nextUsed(block, before.blocks);
    if (block === before.blocks) break;
    const { state, place } = await table.entry(block);
    const hasPlace = place > 0 && state !== BLOCK_STATE.notPresent && state !== BLOCK_STATE.zero;
    if (hasPlace) freed.take(place / MiB, before.blockSize / MiB);
  }
  if (!context.structures.metadata.hasParent) return freed;
  for (let chunk = after.chunks; chunk < before.chunks; chunk += 1) {
    const place = await table.bitmap(chunk);
    if (place !== undefined) freed.take(place / MiB, 1);
  }
  return freed;
}

async function grow(
  context: EditContext,
  before: BatGeometry,
  after: BatGeometry,
  parentSize: number,
): Promise<void> {
  const { hasParent } = context.structures.metadata;
  await clearTail(context, before, after, hasParent ? parentSize : 0);
  const needed = neededEntries(after, hasParent) * BAT_ENTRY_LENGTH;
  if (context.structures.regions.bat.length < needed) {
    await moveBat(context, roundUp(neededEntries(after, true) * BAT_ENTRY_LENGTH, MiB));
  }
  const cleared = await clearEntries(context, before, after, 0);
  await context.write(cleared.updates);
  cleared.done();
  await fillNewBlocks(context, before, after, hasParent ? parentSize : 0);
  await context.pages.reserve(SIZE_SECTORS);
  await setSize(context, after);
  await context.write();
  adoptSize(context, after);
}

/**
 * The part of the last block behind the old end: what is stored there becomes zero, and what is the parent's is
 * replaced by stored zeros as far as the parent reaches.
 */
async function clearTail(
  context: EditContext,
  before: BatGeometry,
  after: BatGeometry,
  parentSize: number,
): Promise<void> {
  const { blockSize, virtualSize } = before;
  const within = virtualSize % blockSize;
  if (within === 0) return;
  const block = before.blocks - 1;
  await context.blocks.zeroStored(block, within);
  const blockEnd = (block + 1) * blockSize;
  const end = Math.min(blockEnd, after.virtualSize, roundUp(parentSize, before.logicalSectorSize));
  if (end <= virtualSize) return;
  const piece = { block, offset: virtualSize, within, length: end - virtualSize, isWhole: false };
  if (await context.blocks.canZero(piece)) await context.blocks.zero(piece);
}

/** Blocks of a fixed image get their places; blocks that would show the parent become zero (state 2). */
async function fillNewBlocks(
  context: EditContext,
  before: BatGeometry,
  after: BatGeometry,
  parentSize: number,
): Promise<void> {
  const { structures, pages, space } = context;
  const table = new BlockTable(pages, after, structures.regions.bat.offset);
  const isFixed = structures.type === 'fixed';
  const parentBlocks = Math.min(after.blocks, Math.ceil(parentSize / after.blockSize));
  const end = isFixed ? after.blocks : parentBlocks;
  for (let block = before.blocks; block < end; block += 1) {
    await pages.reserve(1);
    if (isFixed) {
      const place = await space.claim(after.blockSize, true);
      await table.setEntry(block, BLOCK_STATE.fullyPresent, place);
    } else await table.setEntry(block, BLOCK_STATE.zero);
  }
}
