/**
 * Where the clusters of an exFAT file are: chains in the allocation table, or one run without a chain.
 *
 * Invariants: only clusters that exist come out; a chain has exactly the length that was asked for, so
 * that a loop ends the walk.
 */
import type { ClusterRun } from '../bitmap-ranges.js';
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { PAGE_BYTES, PagedBytes } from '../volume-bytes.js';
import type { ExfatBoot } from './boot.js';

const END_OF_CHAIN = 0xffffffff;
const MEDIA = 0xfffffff8;

export class ExfatTable {
  readonly #boot: ExfatBoot;
  readonly #pages: PagedBytes;

  /** @param read offsets from the volume's start */
  constructor(read: ReadBytes, boot: ExfatBoot) {
    this.#boot = boot;
    this.#pages = new PagedBytes((offset, length) => read(boot.table + offset, length), boot.tableBytes);
  }

  async entry(cluster: number): Promise<number> {
    const index = Math.floor((cluster * 4) / PAGE_BYTES);
    const { view } = this.#pages.current(index) ?? (await this.#pages.page(index));
    return view.getUint32((cluster * 4) % PAGE_BYTES, true);
  }

  /** Entries 0 and 1 never change. @throws IMAGE_CORRUPT (inconsistent) */
  async checkStart(): Promise<void> {
    if ((await this.entry(0)) !== MEDIA || (await this.entry(1)) !== END_OF_CHAIN)
      throw inconsistent('its allocation table begins wrongly');
  }

  #checkCluster(cluster: number): void {
    if (cluster < 2 || cluster >= this.#boot.clusters + 2)
      throw inconsistent(`cluster ${cluster} does not exist`);
  }

  /**
   * Runs of a chain, numbered as in the bitmap (cluster 2 is 0), joined.
   * @param length clusters it must have; undefined: up to its end, at most `limit`
   * @throws IMAGE_CORRUPT (inconsistent)
   */
  async *chain(first: number, length: number | undefined, limit: number): AsyncGenerator<ClusterRun> {
    let run: ClusterRun | undefined;
    let count = 0;
    for (let at = first; ; ) {
      this.#checkCluster(at);
      count += 1;
      if (count > (length ?? limit)) throw inconsistent('a chain of clusters is too long, or a loop');
      if (run && run.start + run.count === at - 2) run.count += 1;
      else {
        if (run) yield run;
        run = { start: at - 2, count: 1 };
      }
      const next = await this.entry(at);
      if (next === END_OF_CHAIN) break;
      at = next;
    }
    if (length !== undefined && count !== length) throw inconsistent('a chain of clusters is too short');
    yield run;
  }

  /** The run of a file without a chain. @throws IMAGE_CORRUPT (inconsistent) */
  contiguous(first: number, length: number): ClusterRun {
    this.#checkCluster(first);
    this.#checkCluster(first + length - 1);
    return { start: first - 2, count: length };
  }
}

/** Reads through runs of clusters. */
export function readThroughClusters(
  read: ReadBytes,
  boot: ExfatBoot,
  runs: readonly ClusterRun[],
): ReadBytes {
  const { clusterBytes, heap } = boot;
  return async (offset, length) => {
    const bytes = new Uint8Array(length);
    let begin = 0;
    for (const { start, count } of runs) {
      const end = begin + count * clusterBytes;
      const from = Math.max(begin, offset);
      const to = Math.min(end, offset + length);
      if (from < to)
        bytes.set(await read(heap + start * clusterBytes + from - begin, to - from), from - offset);
      begin = end;
    }
    if (offset + length > begin) throw inconsistent('a file is read past its end');
    return bytes;
  };
}
