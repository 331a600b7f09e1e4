/**
 * Cuts a request into an unaligned head, an aligned body and an unaligned tail.
 *
 * Invariant: the three lengths add up to the request's; the body starts and ends on multiples of the
 * alignment, head and tail are each shorter than one unit unless there is no body.
 */
import { assert, assertBytes } from '../base/assert.js';
import { roundDown, roundUp } from '../base/bytes.js';

/** Lengths in bytes, in the order of the request. */
export interface SplitRequest {
  head: number;
  body: number;
  tail: number;
}

/**
 * A request without a whole unit in it is all head: it can't be done in units at all.
 * `alignment` is any positive number of bytes, not only a power of two.
 */
export function splitRequest(offset: number, length: number, alignment: number): SplitRequest {
  assertBytes(offset, 'offset');
  assertBytes(length, 'length');
  assert(Number.isSafeInteger(alignment) && alignment > 0, `not an alignment: ${alignment}`);
  const end = offset + length;
  const start = roundUp(offset, alignment);
  const stop = roundDown(end, alignment);
  if (stop <= start) return { head: length, body: 0, tail: 0 };
  return { head: start - offset, body: stop - start, tail: end - stop };
}
