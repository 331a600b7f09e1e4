/**
 * CACHE: the client will read the range soon. Reading it brings it into the system's cache; what was read is dropped.
 *
 * At most 64 MiB of a request are read ahead, one piece after the other: it is advice, and not worth more.
 */
import { MiB } from '../../base/bytes.js';
import type { Request } from '../request.js';
import type { Session } from '../session.js';
import { PIECE } from './read.js';

const MOST_READ_AHEAD = 64 * MiB;

/** Bytes to be admitted before `startCache`. */
export function cacheCost(_session: Session, request: Request): number {
  return Math.min(request.length, PIECE);
}

export function startCache(session: Session, request: Request): void {
  const held = cacheCost(session, request);
  session.run(request, async () => {
    const buffer = session.buffers.lend(held);
    try {
      const end = request.offset + Math.min(request.length, MOST_READ_AHEAD);
      for (let at = request.offset; at < end && !session.isClosed; at += held)
        await session.device.read(buffer.subarray(0, Math.min(held, end - at)), at);
      session.ok(request);
    } finally {
      session.buffers.release(buffer);
      session.account.give(held);
    }
  });
}
