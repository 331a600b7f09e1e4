/**
 * The buffered provider: reads and writes, several pieces at a time, in recycled buffers.
 *
 * Works between any two files; native code is never touched.
 */
import { throwIfAborted } from '../../base/errors.js';
import type { BufferPool } from '../buffer-pool.js';
import type { OffloadProvider, OffloadWriteResult } from '../offload-provider.js';
import { type RangeMove, rangeProvider } from '../provider-base.js';
import { runLimited } from '../run-limited.js';
import type { TokenManager } from '../token-manager.js';

/** Bounds the wait for progress. */
const MAX_LENGTH = 64 * 1024 * 1024;
const PIECES_IN_FLIGHT = 4;

async function movePiece(pool: BufferPool, range: RangeMove, at: number, length: number): Promise<void> {
  throwIfAborted(range.signal, 'copy');
  await pool.with(async (buffer) => {
    const piece = buffer.subarray(0, length);
    const count = await range.source.read(piece, range.sourceOffset + at);
    // The file became shorter: what is gone reads as zeros.
    piece.fill(0, count);
    await range.target.write(piece, range.targetOffset + at);
  });
}

async function move(pool: BufferPool, range: RangeMove): Promise<OffloadWriteResult> {
  const length = Math.min(range.length, MAX_LENGTH);
  const pieces: number[] = [];
  for (let at = 0; at < length; at += pool.size) pieces.push(at);
  await runLimited(pieces, PIECES_IN_FLIGHT, (at) =>
    movePiece(pool, range, at, Math.min(pool.size, length - at)),
  );
  return { status: 'done', length };
}

export function bufferedProvider(manager: TokenManager, pool: BufferPool): OffloadProvider {
  return rangeProvider(manager, {
    id: 'buffered',
    capabilities: () => ({ supported: true, alignment: 1, maxLength: MAX_LENGTH }),
    move: (range) => move(pool, range),
  });
}
