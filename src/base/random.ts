/**
 * Randomness, injected: identifiers and secrets come from a RandomSource so that tests can fix them.
 */
import { randomBytes } from 'node:crypto';
import { guidFromBytes } from './guid.js';

export interface RandomSource {
  /** Fresh, unguessable bytes. */
  bytes(count: number): Uint8Array;
}

/** Asked of the system at once: a call costs several microseconds however few bytes it gives. */
const POOL_BYTES = 4096;

/** Bytes are given out once and forgotten. */
class SystemRandom implements RandomSource {
  #pool: Uint8Array = new Uint8Array(0);
  #used = 0;

  bytes(count: number): Uint8Array {
    if (count > POOL_BYTES / 8) return Uint8Array.from(randomBytes(count));
    if (this.#pool.length - this.#used < count) {
      this.#pool = randomBytes(POOL_BYTES);
      this.#used = 0;
    }
    // A copy, made before the pool forgets: parts of a Buffer share its memory.
    const given = Uint8Array.from(this.#pool.subarray(this.#used, this.#used + count));
    this.#pool.fill(0, this.#used, this.#used + count);
    this.#used += count;
    return given;
  }
}

export const systemRandom: RandomSource = new SystemRandom();

/** A version 4 (random) GUID as text. */
export function randomGuid(random: RandomSource): string {
  const bytes = random.bytes(16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return guidFromBytes(bytes);
}
