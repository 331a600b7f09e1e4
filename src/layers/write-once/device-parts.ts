/**
 * What the kinds of write-once devices do alike.
 */
import { assert } from '../../base/assert.js';
import type { ChunkWrite } from '../../block/write-once-device.js';
import { chunkCount } from './shape.js';

export function assertChunk(device: { size: number; chunkSize: number }, chunk: number): void {
  assert(
    Number.isSafeInteger(chunk) && chunk >= 0 && chunk < chunkCount(device),
    `no chunk of the device: ${chunk}`,
  );
}

/**
 * Seals all, in one go for devices whose `seal` gathers; answers when all have ended, so that none is under way
 * when the first failure is told.
 */
export async function sealEach(writes: readonly ChunkWrite[]): Promise<('written' | 'lost')[]> {
  const ends = await Promise.allSettled(writes.map((write) => write.seal()));
  return ends.map((end) => {
    if (end.status === 'rejected') throw end.reason;
    return end.value;
  });
}
