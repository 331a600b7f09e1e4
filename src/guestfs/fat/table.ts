/**
 * The file allocation table: entries by cluster, free runs, and what its first two entries say.
 *
 * Invariants: only entries of clusters that exist are looked at; an entry that is not 0 is in use, bad and
 * reserved ones too; memory does not depend on the table's size.
 */
import type { ClusterRun } from '../bitmap-ranges.js';
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { inPieces, MAX_READ, PAGE_BYTES, PagedBytes, viewOf } from '../volume-bytes.js';
import type { FatBoot, FatKind } from './boot.js';

/** Bits of an entry that count. */
const MASK: Record<FatKind, number> = { fat12: 0xfff, fat16: 0xffff, fat32: 0x0fffffff };
/** Bits of entry 1: set when the volume was cleanly unmounted, and when no read or write failed. FAT12 has none. */
const CLEAN: Record<FatKind, number> = { fat12: 0, fat16: 0x8000, fat32: 0x08000000 };
const NO_ERRORS: Record<FatKind, number> = { fat12: 0, fat16: 0x4000, fat32: 0x04000000 };

/** Entry `index` of the table in `bytes`, which begins with entry 0 or at a multiple of its size. */
function entryIn(kind: FatKind, view: DataView, index: number): number {
  if (kind === 'fat32') return view.getUint32(index * 4, true) & MASK.fat32;
  if (kind === 'fat16') return view.getUint16(index * 2, true);
  const pair = view.getUint16(index + (index >> 1), true);
  return index % 2 === 0 ? pair & 0xfff : pair >> 4;
}

export class FatTable {
  readonly #boot: FatBoot;
  readonly #read: ReadBytes;
  readonly #pages: PagedBytes;

  /** @param read offsets from the volume's start */
  constructor(read: ReadBytes, boot: FatBoot) {
    this.#boot = boot;
    this.#read = (offset, length) => read(boot.tables + offset, length);
    this.#pages = new PagedBytes(this.#read, boot.tableBytes);
  }

  /** The entry of a cluster: 0 when free. @throws IMAGE_CORRUPT (inconsistent) for a cluster that isn't there */
  async entry(cluster: number): Promise<number> {
    const { kind, clusters } = this.#boot;
    if (cluster >= clusters + 2) throw inconsistent(`cluster ${cluster} does not exist`);
    // A table of FAT12 fits the first page.
    const perPage = kind === 'fat12' ? PAGE_BYTES : PAGE_BYTES / (kind === 'fat16' ? 2 : 4);
    const index = Math.floor(cluster / perPage);
    const { view } = this.#pages.current(index) ?? (await this.#pages.page(index));
    return entryIn(kind, view, cluster % perPage);
  }

  /** The cluster after this one in its chain; undefined at the end. @throws IMAGE_CORRUPT (inconsistent) */
  async next(cluster: number): Promise<number | undefined> {
    const { kind, clusters } = this.#boot;
    if (cluster < 2) throw inconsistent(`a file begins at cluster ${cluster}`);
    const value = await this.entry(cluster);
    if (value >= MASK[kind] - 7) return undefined;
    if (value === 0) throw inconsistent(`cluster ${cluster} is in use and called free`);
    if (value < 2 || value >= clusters + 2)
      throw inconsistent(`cluster ${cluster} has an impossible successor`);
    return value;
  }

  /** Why entries 0 and 1 say that the volume is not in order; undefined when they do not. */
  async objection(): Promise<string | undefined> {
    const { kind, media } = this.#boot;
    const first = await this.entry(0);
    if (first !== MASK[kind] - 0xff + media) return 'its allocation table does not begin with the media byte';
    const second = await this.entry(1);
    if ((second & CLEAN[kind]) !== CLEAN[kind]) return 'it was not cleanly unmounted';
    if ((second & NO_ERRORS[kind]) !== NO_ERRORS[kind])
      return 'reading or writing it failed once: it wants a check';
    return second >= MASK[kind] - 7 ? undefined : 'its allocation table begins wrongly';
  }

  /** True when all copies of the table are the same, byte by byte. */
  async copiesAgree(): Promise<boolean> {
    const { copies, tableBytes } = this.#boot;
    for (let copy = 1; copy < copies; copy += 1) {
      for await (const { offset, bytes } of inPieces(this.#read, tableBytes)) {
        const other = await this.#read(copy * tableBytes + offset, bytes.length);
        if (Buffer.compare(bytes, other) !== 0) return false;
      }
    }
    return true;
  }

  /** Free clusters in order, joined, counted from cluster 2 (which is 0 here). */
  async *freeRuns(): AsyncGenerator<ClusterRun> {
    const { kind, clusters } = this.#boot;
    const end = clusters + 2;
    const perPiece = kind === 'fat12' ? end : MAX_READ / (kind === 'fat16' ? 2 : 4);
    let start = -1;
    for (let from = 0; from < end; from += perPiece) {
      const count = Math.min(perPiece, end - from);
      const view = viewOf(await this.#piece(from, count));
      for (let index = from === 0 ? 2 : 0; index < count; index += 1) {
        const isFree = entryIn(kind, view, index) === 0;
        if (isFree && start < 0) start = from + index;
        if (!isFree && start >= 0) {
          yield { start: start - 2, count: from + index - start };
          start = -1;
        }
      }
    }
    if (start >= 0) yield { start: start - 2, count: end - start };
  }

  #piece(from: number, count: number): Promise<Uint8Array> {
    const { kind, tableBytes } = this.#boot;
    // An entry of FAT12 is looked at as two bytes, so one more may be read than it has.
    if (kind === 'fat12') return this.#read(0, Math.min(tableBytes, Math.ceil(count * 1.5) + 1));
    const width = kind === 'fat16' ? 2 : 4;
    return this.#read(from * width, count * width);
  }
}
