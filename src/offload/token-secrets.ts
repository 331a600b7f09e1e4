/** How ids and random values of tokens are written in records, and how they are compared. */
import { timingSafeEqual } from 'node:crypto';

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

export function unhex(text: string): Uint8Array {
  return Buffer.from(text, 'hex');
}

/** Compares in constant time. */
export function sameSecret(stored: string, given: Uint8Array): boolean {
  const known = unhex(stored);
  return known.length === given.length && timingSafeEqual(known, given);
}
