/**
 * Finding runs of zeros in a buffer.
 *
 * One native compare (memcmp against a zero page) per chunk; for data that is not zero it ends at the
 * first byte that differs, so scanning costs next to nothing where there is nothing to find.
 */

const ZERO_PAGE = Buffer.alloc(64 * 1024);

/** True when every byte is zero. */
export function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZERO_PAGE.length) {
    const end = Math.min(at + ZERO_PAGE.length, bytes.length);
    if (ZERO_PAGE.compare(bytes, at, end, 0, end - at) !== 0) return false;
  }
  return true;
}

export interface Run {
  /** Start within the buffer. */
  start: number;
  /** End within the buffer, exclusive. */
  end: number;
}

/**
 * The runs of `granularity`-sized chunks that hold at least one byte other than zero, neighbours merged.
 * Chunks are counted from the buffer's start; the last may be short.
 */
export function nonZeroRuns(bytes: Uint8Array, granularity: number): Run[] {
  const runs: Run[] = [];
  let open: Run | undefined;
  for (let at = 0; at < bytes.length; at += granularity) {
    const end = Math.min(at + granularity, bytes.length);
    if (isZero(bytes.subarray(at, end))) {
      open = undefined;
    } else if (open) {
      open.end = end;
    } else {
      open = { start: at, end };
      runs.push(open);
    }
  }
  return runs;
}
