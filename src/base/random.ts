/**
 * Randomness, injected: identifiers and secrets come from a RandomSource so that tests can fix them.
 */
import { randomBytes, randomFillSync } from 'node:crypto';
import { guidFromBytes } from './guid.js';

export interface RandomSource {
  /** Fresh, unguessable bytes. */
  bytes(count: number): Uint8Array;
}

/** Asking the system costs microseconds however little is asked for, so small requests share an answer. */
const POOL_BYTES = 2048;
const MOST_POOLED = 64;
const pool = new Uint8Array(POOL_BYTES);
let taken = POOL_BYTES;

/** Bytes of the pool, each handed out once and not kept. */
function pooled(count: number): Uint8Array {
  if (taken + count > POOL_BYTES) {
    randomFillSync(pool);
    taken = 0;
  }
  const bytes = pool.slice(taken, taken + count);
  pool.fill(0, taken, taken + count);
  taken += count;
  return bytes;
}

export const systemRandom: RandomSource = {
  bytes: (count) => (count <= MOST_POOLED ? pooled(count) : Uint8Array.from(randomBytes(count))),
};

/** A version 4 (random) GUID as text. */
export function randomGuid(random: RandomSource): string {
  const bytes = random.bytes(16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return guidFromBytes(bytes);
}
