/**
 * `snapshot export`: a snapshot as an image of its own, of any format.
 *
 * The snapshot says where its bytes are (in devices, else in the image), and a conversion moves them: by sharing
 * extents where the storage can, so that no payload is copied.
 *
 * While the disk is written to, places in the image hold only until they are overwritten. Then a clone of the
 * image is made first, and what no device has by then is in the clone for good. Where extents can't be shared, the
 * snapshot is read as its clients read it.
 */
import { isVhdkitError } from '../../base/errors.js';
import { type Extent, pushExtent } from '../../block/extent.js';
import { Chain } from '../../formats/chain.js';
import type { DiskImage } from '../../formats/disk-image.js';
import { openImage } from '../../formats/registry.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { snapshotFileSystem } from '../../io/snapshot-file-system.js';
import { type SnapshotSet, sealedFile, viewFile } from '../../layers/snapshots.js';
import type { ConvertOptions, ConvertResult } from '../convert/types.js';
import { convert } from '../convert.js';
import type { Host } from '../host.js';
import { openSet, type SnapshotChoice } from './open-set.js';

export interface SnapshotExportOptions extends SnapshotChoice, Omit<ConvertOptions, 'source'> {
  /** Of the snapshot. */
  name: string;
}

export interface SnapshotExportResult extends ConvertResult {
  snapshot: string;
}

/** A raw image that shows a snapshot. `below`: the image's file as it was when no device had its chunks. */
async function snapshotImage(set: SnapshotSet, name: string, below: RandomAccessFile): Promise<DiskImage> {
  const raw = await openImage(below, { format: 'raw' });
  const sealed = new Map<RandomAccessFile, RandomAccessFile>();
  const locate = async (offset: number, length: number): Promise<Extent[]> => {
    const extents: Extent[] = [];
    for (const { place, ...run } of await set.locate(name, offset, length)) {
      if (!place) {
        for (const extent of await raw.locate(run.offset, run.length)) pushExtent(extents, extent);
        continue;
      }
      const file = sealed.get(place.file) ?? sealedFile(place.file);
      sealed.set(place.file, file);
      pushExtent(extents, { state: 'data', ...run, file, fileOffset: place.fileOffset });
    }
    return extents;
  };
  const { format, type, file, virtualSize, blockSize, logicalSectorSize, physicalSectorSize } = raw;
  const { id, linkId, creator, parentLink, log, warnings, unwrittenIsZero } = raw;
  return {
    ...{ format, type, file, virtualSize, blockSize, logicalSectorSize, physicalSectorSize },
    ...{ id, linkId, creator, parentLink, log, warnings, unwrittenIsZero },
    locate,
    prepareWrite: (offset, length) => raw.prepareWrite(offset, length),
    flush: async () => undefined,
    layout: () => raw.layout(),
    check: async () => [],
    close: () => raw.close(),
  };
}

/** The image under a disk that is written to, as it is at this moment; undefined where extents can't be shared. */
async function cloneOf(host: Host, path: string): Promise<RandomAccessFile | undefined> {
  try {
    return await snapshotFileSystem(host.fileSystem).open(path);
  } catch (error) {
    if (isVhdkitError(error) && error.code === 'UNSUPPORTED') return undefined;
    throw error;
  }
}

/**
 * Exports from a set that is open. @param live whether the disk may be written to meanwhile
 * @throws NOT_FOUND, SNAPSHOT_BROKEN, and what converting throws
 */
export async function exportFrom(
  host: Host,
  set: SnapshotSet,
  options: SnapshotExportOptions,
  live: boolean,
): Promise<SnapshotExportResult> {
  const { path, name, ...rest } = options;
  const view = set.view(name);
  const openSource = async (): Promise<Chain> => {
    if (!live) return new Chain([await snapshotImage(set, name, await host.fileSystem.open(path))]);
    const clone = await cloneOf(host, path);
    if (clone) return new Chain([await snapshotImage(set, name, clone)]);
    return new Chain([await openImage(viewFile(view), { format: 'raw' })]);
  };
  const result = await set.holding(() => convert(host, { ...rest, source: `${path}@${name}`, openSource }));
  // It may have become broken on the way; then nobody should rely on what was read.
  set.view(name);
  return { ...result, snapshot: name };
}

/**
 * @throws IN_USE (somebody writes the image), NOT_FOUND, SNAPSHOT_BROKEN, SNAPSHOT_RECORD_INVALID, and what
 *   converting throws
 */
export async function exportSnapshot(
  host: Host,
  options: SnapshotExportOptions,
): Promise<SnapshotExportResult> {
  const { control, path, name, signal } = options;
  if (control !== undefined) {
    const { absolute, askServer } = await import('./live.js');
    const { to, type, provider, verify, force, dryRun } = options;
    const body = { target: absolute(options.target), to, type, provider, verify, force, dryRun };
    return askServer(host, { control, path, signal }, { method: 'POST', segments: [name, 'export'], body });
  }
  const opened = await openSet(host, options);
  try {
    return await exportFrom(host, opened.set, options, false);
  } finally {
    await opened.close();
  }
}
