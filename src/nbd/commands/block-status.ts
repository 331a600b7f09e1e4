/**
 * BLOCK_STATUS: one chunk per chosen meta context, each with the extents from the request's offset on.
 *
 * Neighbours with the same flags are one extent. A chunk holds at most MAX_EXTENTS, and no extent goes past the request: the
 * client asks on from where the answer ends.
 */
import { VhdkitError } from '../../base/errors.js';
import type { ContextExtent } from '../export-table.js';
import type { ChosenContext } from '../negotiation.js';
import { AllocationFlag, CHUNK_HEADER_SIZE, ChunkFlag, ChunkType, CommandFlag } from '../protocol.js';
import { putChunkHeader } from '../replies.js';
import type { Request } from '../request.js';
import type { Session } from '../session.js';

const MAX_EXTENTS = 4096;
const EXTENT_SIZE = 8;

/** Bytes to be admitted before `startBlockStatus`. */
export function blockStatusCost(session: Session): number {
  return session.contexts.length * (CHUNK_HEADER_SIZE + 4 + MAX_EXTENTS * EXTENT_SIZE);
}

export function startBlockStatus(session: Session, request: Request): void {
  session.run(request, async () => {
    let held = blockStatusCost(session);
    try {
      const answers: ContextExtent[][] = [];
      for (const context of session.contexts) answers.push(await extentsOf(session, context, request));
      if (session.isClosed) return;
      session.contexts.forEach(({ id }, index) => {
        const last = index === session.contexts.length - 1;
        const chunk = statusChunk(request, id, answers[index] ?? [], last);
        // What was admitted for it stays held until the client has taken it.
        session.output.put(chunk, chunk.length);
        held -= chunk.length;
      });
    } finally {
      session.account.give(held);
    }
  });
}

async function extentsOf(
  session: Session,
  { context }: ChosenContext,
  request: Request,
): Promise<ContextExtent[]> {
  const { offset, length } = request;
  const found = context ? await context.extents(offset, length) : await allocation(session, offset, length);
  const most = (request.flags & CommandFlag.REQ_ONE) !== 0 ? 1 : MAX_EXTENTS;
  const merged = mergeExtents(found, length, most);
  if (merged.length === 0)
    throw new VhdkitError('IO_FAILED', 'No extents of a range', { operation: 'tell block status' });
  return merged;
}

async function allocation(session: Session, offset: number, length: number): Promise<ContextExtent[]> {
  const { device } = session;
  if (!device.capabilities.extents) return [{ length, flags: 0 }];
  const extents = await device.extents(offset, length);
  return extents.map((extent) => ({
    length: extent.length,
    flags: (extent.hole ? AllocationFlag.HOLE : 0) | (extent.zero ? AllocationFlag.ZERO : 0),
  }));
}

/** At most `most` extents of `total` bytes, equal neighbours merged. */
export function mergeExtents(
  extents: readonly ContextExtent[],
  total: number,
  most: number,
): ContextExtent[] {
  const merged: ContextExtent[] = [];
  let left = total;
  for (const extent of extents) {
    if (left === 0) break;
    const length = Math.min(extent.length, left);
    const last = merged.at(-1);
    if (last?.flags === extent.flags) {
      last.length += length;
    } else {
      if (merged.length === most) break;
      if (length > 0) merged.push({ length, flags: extent.flags });
    }
    left -= length;
  }
  return merged;
}

function statusChunk(request: Request, id: number, extents: readonly ContextExtent[], last: boolean): Buffer {
  const length = 4 + extents.length * EXTENT_SIZE;
  const chunk = Buffer.alloc(CHUNK_HEADER_SIZE + length);
  const flags = last ? ChunkFlag.DONE : 0;
  putChunkHeader(chunk, 0, { flags, type: ChunkType.BLOCK_STATUS, length }, request);
  chunk.writeUInt32BE(id, CHUNK_HEADER_SIZE);
  extents.forEach((extent, index) => {
    const at = CHUNK_HEADER_SIZE + 4 + index * EXTENT_SIZE;
    chunk.writeUInt32BE(extent.length, at);
    chunk.writeUInt32BE(extent.flags >>> 0, at + 4);
  });
  return chunk;
}
