/**
 * Free space of a file system that counts in clusters: from runs of clusters to byte ranges of the disk.
 *
 * Invariants: every range lies inside the volume; the walk ends in an error when it does not come to the
 * amount that was found while judging (the disk changed meanwhile).
 */
import type { ByteRange } from '../io/random-access-file.js';
import type { ClusterRun } from './bitmap-ranges.js';
import type { FileSystemKind, FreeSpaceAnswer, VolumeRange } from './free-space.js';
import { inconsistent } from './inconsistent.js';

export interface ClusterSpace {
  kind: FileSystemKind;
  volume: VolumeRange;
  /** Bytes from the start of the volume to the cluster that runs count from. */
  firstCluster: number;
  clusterBytes: number;
  /** Free clusters, counted while judging. */
  freeClusters: number;
  /** Free clusters in order, neighbours joined; walked anew on each call. */
  runs(): AsyncIterable<ClusterRun>;
}

async function* byteRanges(space: ClusterSpace): AsyncGenerator<ByteRange> {
  const { volume, firstCluster, clusterBytes } = space;
  let seen = 0;
  for await (const { start, count } of space.runs()) {
    const inVolume = firstCluster + start * clusterBytes;
    const length = count * clusterBytes;
    if (inVolume + length > volume.length)
      throw inconsistent('its free space ends outside its volume', volume.offset);
    seen += count;
    if (seen > space.freeClusters) break;
    yield { offset: volume.offset + inVolume, length };
  }
  if (seen !== space.freeClusters)
    throw inconsistent('its free space changed while it was read', volume.offset);
}

/** The answer of a reader that has checked everything. */
export function freeClusterSpace(space: ClusterSpace): FreeSpaceAnswer {
  const freeBytes = space.freeClusters * space.clusterBytes;
  return { status: 'free', space: { kind: space.kind, freeBytes, ranges: () => byteRanges(space) } };
}
