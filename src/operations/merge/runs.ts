/**
 * What is to be brought into the target of a merge: ranges of the disk that the merged images say something
 * about, as data or as zeros.
 *
 * Invariants: runs are in disk order and consist of whole sectors (the disk's end excepted); what no merged
 * image has is in none of them, because the target already shows it. Long holes of a file are zeros, so
 * that they become none of the target's storage; short ones stay within their data.
 */
import { KiB, MiB, roundDown, roundUp } from '../../base/bytes.js';
import { throwIfAborted } from '../../base/errors.js';
import { type DataExtent, walkExtents, type ZeroExtent } from '../../block/extent.js';
import type { Chain } from '../../formats/chain.js';
import { HoleFinder } from '../../offload/sources.js';

export type Run = DataExtent | ZeroExtent;

/** Longest run: bounds the wait for progress and cancellation. */
const MAX_RUN = 64 * MiB;
/** Shorter holes are not worth a request of their own. */
const LONG_HOLE = 64 * KiB;

/** What is to be done, in bytes. */
export interface Load {
  payload: number;
  zeros: number;
}

/** The parts of an extent of a file, long holes as zeros. */
function* partsOf(extent: DataExtent, holes: HoleFinder, sectorSize: number): Generator<Run> {
  const { file, offset, length } = extent;
  const shift = extent.fileOffset - offset;
  const end = offset + length;
  let from = offset;
  for (let at = offset; at < end; ) {
    const stored = holes.nextData(file, at + shift, end + shift);
    const start = stored ? stored.offset - shift : end;
    // Holes end where blocks of the file system do, which may be within a sector.
    const holeFrom = Math.min(end, roundUp(at, sectorSize));
    const holeTo = start === end ? end : roundDown(start, sectorSize);
    if (holeTo - holeFrom >= LONG_HOLE) {
      if (holeFrom > from) {
        yield { state: 'data', offset: from, length: holeFrom - from, file, fileOffset: from + shift };
      }
      yield { state: 'zero', offset: holeFrom, length: holeTo - holeFrom };
      from = holeTo;
    }
    at = stored ? start + stored.length : end;
  }
  if (from < end) yield { state: 'data', offset: from, length: end - from, file, fileOffset: from + shift };
}

/** The runs of what is merged: the images above the target, without it. */
export async function* mergeRuns(merged: Chain): AsyncGenerator<Run> {
  const holes = new HoleFinder();
  const range = { offset: 0, length: merged.virtualSize };
  const { logicalSectorSize } = merged.top;
  for await (const extent of walkExtents(merged, range, MAX_RUN)) {
    if (extent.state === 'data') yield* partsOf(extent, holes, logicalSectorSize);
    else if (extent.state === 'zero') yield { state: 'zero', offset: extent.offset, length: extent.length };
  }
}

/** How much there is to do. Reads tables only. @throws CANCELLED, IMAGE_CORRUPT, IO_FAILED */
export async function survey(merged: Chain, signal: AbortSignal | undefined): Promise<Load> {
  const load: Load = { payload: 0, zeros: 0 };
  for await (const { state, length } of mergeRuns(merged)) {
    throwIfAborted(signal, 'merge');
    if (state === 'data') load.payload += length;
    else load.zeros += length;
  }
  return load;
}
