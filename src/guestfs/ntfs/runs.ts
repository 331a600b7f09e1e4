/**
 * Run lists (mapping pairs): which clusters hold a piece of an attribute.
 *
 * Invariants: every decoded run lies inside the volume and has at least one cluster; the runs cover exactly
 * the clusters that the attribute claims; a list can't be longer than the bytes it is stored in.
 */
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';

/** `lcn` is a cluster of the volume; undefined for a hole. */
export interface Run {
  vcn: number;
  lcn: number | undefined;
  count: number;
}

function unsigned(bytes: Uint8Array, at: number, length: number): number {
  let value = 0;
  for (let index = length - 1; index >= 0; index -= 1) value = value * 256 + (bytes[at + index] ?? 0);
  return value;
}

function signed(bytes: Uint8Array, at: number, length: number): number {
  const value = unsigned(bytes, at, length);
  const isNegative = ((bytes[at + length - 1] ?? 0) & 0x80) !== 0;
  return isNegative ? value - 2 ** (8 * length) : value;
}

/**
 * Decodes mapping pairs: a header byte (low nibble: bytes of the length, high nibble: bytes of the signed
 * distance from the previous run's cluster, 0 for a hole), ended by a zero byte.
 * @param vcns the clusters of the attribute that this list covers: the first, and the end (exclusive)
 * @param clusters of the volume
 * @throws IMAGE_CORRUPT (inconsistent)
 */
export function decodeRuns(bytes: Uint8Array, vcns: { first: number; end: number }, clusters: number): Run[] {
  const runs: Run[] = [];
  let vcn = vcns.first;
  let lcn = 0;
  let at = 0;
  for (;;) {
    const header = bytes[at];
    if (header === undefined) throw inconsistent('a run list has no end');
    if (header === 0) break;
    const lengthBytes = header & 0xf;
    const placeBytes = header >> 4;
    if (lengthBytes < 1 || lengthBytes > 8 || placeBytes > 8 || at + lengthBytes + placeBytes >= bytes.length)
      throw inconsistent('a run list is damaged');
    const count = unsigned(bytes, at + 1, lengthBytes);
    if (count < 1 || vcn + count > vcns.end) throw inconsistent('a run list is longer than its file');
    lcn += placeBytes === 0 ? 0 : signed(bytes, at + 1 + lengthBytes, placeBytes);
    if (placeBytes > 0 && (lcn < 0 || lcn + count > clusters))
      throw inconsistent('a run list points outside the volume');
    runs.push({ vcn, lcn: placeBytes === 0 ? undefined : lcn, count });
    vcn += count;
    at += 1 + lengthBytes + placeBytes;
  }
  if (vcn !== vcns.end) throw inconsistent('a run list is shorter than its file');
  return runs;
}

/** True when two runs hold the same cluster. */
export function overlap(runs: readonly Run[]): boolean {
  const places = runs.flatMap(({ lcn, count }) => (lcn === undefined ? [] : [{ lcn, count }]));
  places.sort((a, b) => a.lcn - b.lcn);
  return places.some((place, index) => {
    const previous = places[index - 1];
    return previous !== undefined && previous.lcn + previous.count > place.lcn;
  });
}

/** The run with the cluster, by halving. */
function runAt(runs: readonly Run[], vcn: number): Run | undefined {
  let low = 0;
  let high = runs.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const run = runs[middle];
    if (run === undefined) return undefined;
    if (vcn < run.vcn) high = middle - 1;
    else if (vcn >= run.vcn + run.count) low = middle + 1;
    else return run;
  }
  return undefined;
}

/** Reads the bytes of an attribute through its runs. Holes read as zeros. `runs` may grow meanwhile. */
export function readThroughRuns(read: ReadBytes, runs: readonly Run[], clusterBytes: number): ReadBytes {
  return async (offset, length) => {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const vcn = Math.floor((offset + done) / clusterBytes);
      const run = runAt(runs, vcn);
      if (!run) throw inconsistent('a file is read past its end');
      const inRun = offset + done - run.vcn * clusterBytes;
      const piece = Math.min(length - done, run.count * clusterBytes - inRun);
      if (run.lcn !== undefined) bytes.set(await read(run.lcn * clusterBytes + inRun, piece), done);
      done += piece;
    }
    return bytes;
  };
}
