/**
 * Ids of primaries where there is room for a GUID only: the id itself where it is one, else one made from its hash.
 */
import { createHash } from 'node:crypto';
import { guidFromBytes, normalizeGuid } from '../../base/guid.js';

/** The GUID that stands for a primary's id (version 8, "custom", RFC 9562, where it is made from a hash). */
export function diskIdOf(primaryId: string): string {
  const guid = normalizeGuid(primaryId);
  if (guid !== undefined) return guid;
  const bytes = Uint8Array.from(createHash('sha256').update(primaryId).digest().subarray(0, 16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return guidFromBytes(bytes);
}
