/**
 * Compares all files of an exFAT volume with its allocation bitmap.
 *
 * Invariant: when this passes, every cluster of every file and folder, of the bitmap and of the up-case
 * table is marked used. All files together never have more clusters than are used, so loops and shared
 * clusters end the walk. Memory is bounded by the number of folders and the size of one.
 */
import { MiB } from '../../base/bytes.js';
import { allUsed, type ClusterRun, countUsed } from '../bitmap-ranges.js';
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { PagedBytes } from '../volume-bytes.js';
import type { ExfatBoot } from './boot.js';
import { type ExfatTable, readThroughClusters } from './chains.js';
import { type Allocation, type FolderItem, folderItems } from './folder.js';

/** The specification's limit for the size of a folder. */
const MAX_FOLDER = 256 * MiB;
const MAX_OPEN_FOLDERS = 1_000_000;

export interface ExfatVolume {
  /** Offsets from the volume's start. */
  read: ReadBytes;
  boot: ExfatBoot;
  table: ExfatTable;
}

export interface Bitmap {
  read: ReadBytes;
  /** Bytes. */
  size: number;
  /** Clusters marked used. */
  used: number;
}

async function collect(runs: AsyncIterable<ClusterRun>): Promise<ClusterRun[]> {
  const all: ClusterRun[] = [];
  for await (const run of runs) all.push(run);
  return all;
}

function clustersOf({ boot }: ExfatVolume, bytes: number): number {
  const clusters = Math.ceil(bytes / boot.clusterBytes);
  if (clusters > boot.clusters) throw inconsistent('a file is larger than the volume');
  return clusters;
}

async function* runsOf(volume: ExfatVolume, allocation: Allocation): AsyncGenerator<ClusterRun> {
  const clusters = clustersOf(volume, allocation.size);
  if (clusters === 0) return;
  if (allocation.hasChain) yield* volume.table.chain(allocation.first, clusters, clusters);
  else yield volume.table.contiguous(allocation.first, clusters);
}

interface Folder {
  runs: ClusterRun[];
  items(): AsyncGenerator<FolderItem>;
}

function folderOf({ read, boot }: ExfatVolume, runs: ClusterRun[]): Folder {
  const length = runs.reduce((sum, { count }) => sum + count, 0) * boot.clusterBytes;
  return { runs, items: () => folderItems(readThroughClusters(read, boot, runs), length) };
}

/** The root folder has no entry that tells its length. @throws IMAGE_CORRUPT (inconsistent) */
export async function openRoot(volume: ExfatVolume): Promise<Folder> {
  const { clusterBytes, clusters, rootCluster } = volume.boot;
  const limit = Math.min(clusters, Math.ceil(MAX_FOLDER / clusterBytes));
  return folderOf(volume, await collect(volume.table.chain(rootCluster, undefined, limit)));
}

/** The one bitmap that the root folder names. @throws IMAGE_CORRUPT (inconsistent) */
export async function openBitmap(volume: ExfatVolume, root: Folder): Promise<Bitmap> {
  let found: Allocation | undefined;
  let upCase = 0;
  for await (const item of root.items()) {
    if (item.kind === 'upCase') upCase += 1;
    if (item.kind !== 'bitmap') continue;
    if (found || item.isSecond) throw inconsistent('it has two allocation bitmaps (TexFAT)');
    found = item.allocation;
  }
  if (!found || upCase !== 1)
    throw inconsistent('its root folder lacks the allocation bitmap or up-case table');
  const { clusters } = volume.boot;
  if (found.size !== Math.ceil(clusters / 8)) throw inconsistent('its allocation bitmap has the wrong size');
  const runs = await collect(runsOf(volume, found));
  const read = readThroughClusters(volume.read, volume.boot, runs);
  return { read, size: found.size, used: await countUsed(read, clusters) };
}

/**
 * Walks all folders.
 * @throws IMAGE_CORRUPT (inconsistent) when a file holds a cluster that is not marked used
 */
export async function checkFiles(volume: ExfatVolume, root: Folder, bitmap: Bitmap): Promise<void> {
  const marks = new PagedBytes(bitmap.read, bitmap.size);
  const open: Allocation[] = [];
  let left = bitmap.used;
  const claim = async (run: ClusterRun): Promise<void> => {
    left -= run.count;
    if (left < 0) throw inconsistent('its files share clusters');
    if (!(await allUsed(marks, run))) throw inconsistent('a file holds clusters that the bitmap calls free');
  };
  const visit = async (folder: Folder): Promise<void> => {
    for await (const { kind, allocation } of folder.items()) {
      if (kind === 'folder') {
        if (open.push(allocation) > MAX_OPEN_FOLDERS) throw inconsistent('it has too many folders');
      } else {
        for await (const run of runsOf(volume, allocation)) await claim(run);
      }
    }
  };
  for (const run of root.runs) await claim(run);
  await visit(root);
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (next.size > MAX_FOLDER) throw inconsistent('a folder is too long');
    const runs = await collect(runsOf(volume, next));
    for (const run of runs) await claim(run);
    await visit(folderOf(volume, runs));
  }
}
