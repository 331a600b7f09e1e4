/**
 * Randomness, injected: identifiers and secrets come from a RandomSource so that tests can fix them.
 */
import { randomBytes } from 'node:crypto';
import { guidFromBytes } from './guid.js';

export interface RandomSource {
  /** Fresh, unguessable bytes. */
  bytes(count: number): Uint8Array;
}

export const systemRandom: RandomSource = { bytes: (count) => Uint8Array.from(randomBytes(count)) };

/** A version 4 (random) GUID as text. */
export function randomGuid(random: RandomSource): string {
  const bytes = random.bytes(16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return guidFromBytes(bytes);
}
