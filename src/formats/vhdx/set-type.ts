/**
 * From dynamic to fixed and back (MS-VHDX 2.6.2.1, LeaveBlocksAllocated).
 *
 * Invariant: an image is marked as fixed only after every block has its place. What the disk reads as does not
 * change, so DataWriteGuid does not either. Giving places back after the other direction is the caller's
 * business (`zero` on what holds only zeros).
 */
import { VhdkitError } from '../../base/errors.js';
import { BLOCK_STATE } from './bat.js';
import { viewOf } from './binary.js';
import { isAnchor } from './block-changes.js';
import { BlockTable } from './block-table.js';
import { type EditContext, metadataPages } from './edit-context.js';
import { ITEM_GUID } from './layout.js';
import { overwriteItem, sectorsTouched } from './metadata-update.js';

/** @throws UNSUPPORTED for a differencing image */
export function assertHasType(context: EditContext): void {
  if (!context.structures.metadata.hasParent) return;
  const { path } = context.file;
  throw new VhdkitError('UNSUPPORTED', `${path} is a differencing image, neither fixed nor dynamic`, {
    operation: 'change type',
    context: { path },
    hint: 'Merge it into its parent, or convert it to a new image.',
  });
}

/** Assumes that the session has begun. Durable when it returns. @throws NO_SPACE, IO_FAILED */
export async function changeType(context: EditContext, type: 'fixed' | 'dynamic'): Promise<void> {
  if (type === 'fixed') await allocateAll(context);
  const { metadata } = context.structures;
  const leaveBlocksAllocated = type === 'fixed';
  const parameters = new Uint8Array(8);
  viewOf(parameters).setUint32(0, metadata.blockSize, true);
  viewOf(parameters).setUint32(4, leaveBlocksAllocated ? 1 : 0, true);
  await context.pages.reserve(sectorsTouched(parameters.length));
  await overwriteItem(metadataPages(context), ITEM_GUID.fileParameters, parameters);
  await context.write();
  context.adopt({ type, metadata: { ...metadata, leaveBlocksAllocated } });
}

async function allocateAll(context: EditContext): Promise<void> {
  const { structures, pages, space, file } = context;
  const { geometry } = structures;
  const table = new BlockTable(pages, geometry, structures.regions.bat.offset);
  for (let block = 0; block < geometry.blocks; block += 1) {
    const { state, place } = await table.entry(block);
    if (state === BLOCK_STATE.fullyPresent) continue;
    const hasAnchor = place > 0 && isAnchor(state);
    if (hasAnchor) await file.zero(place, geometry.blockSize);
    const where = hasAnchor ? place : await space.claim(geometry.blockSize, true);
    await pages.reserve(1);
    await table.setEntry(block, BLOCK_STATE.fullyPresent, where);
  }
}
