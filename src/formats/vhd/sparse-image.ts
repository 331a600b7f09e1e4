/**
 * A dynamic or differencing VHD, open for reading.
 *
 * Invariant: memory stays flat: BAT pages and sector bitmaps come from small caches. How blocks become
 * extents is in sparse-reader.ts.
 */
import type { Extent } from '../../block/extent.js';
import type { CheckOptions, ImageLayout, ParentLink } from '../disk-image.js';
import type { Finding } from '../finding.js';
import { BlockAllocationTable } from './bat.js';
import { checkSparse } from './check.js';
import { BITMAP_CACHE, readBitmap } from './editable-bitmaps.js';
import { AsyncLru } from './lru.js';
import type { SectorBitmap } from './sector-bitmap.js';
import { SparseReader } from './sparse-reader.js';
import type { SparseStructures } from './structures.js';
import { OpenVhd } from './vhd-image.js';

export class SparseVhd extends OpenVhd {
  readonly blockSize: number;
  readonly parentLink: ParentLink | undefined;
  readonly #structures: SparseStructures;
  readonly #bat: BlockAllocationTable;
  readonly #reader: SparseReader;

  constructor(structures: SparseStructures) {
    super(structures);
    const { file, table, rules, type } = structures;
    this.#structures = structures;
    this.blockSize = table.blockSize;
    this.parentLink = structures.parentLink;
    const bat = new BlockAllocationTable(file, table);
    this.#bat = bat;
    /** By byte offset of the bitmap. */
    const bitmaps = new AsyncLru<SectorBitmap>(BITMAP_CACHE, (offset) => readBitmap(file, offset, table));
    const source = {
      file,
      rules,
      entries: (first: number, count: number) => bat.entries(first, count),
      pages: () => bat.pages(),
      entryOffset: (block: number) => bat.entryOffset(block),
      bitmap: (_block: number, offset: number) => bitmaps.get(offset),
    };
    this.#reader = new SparseReader(source, type === 'differencing' ? 'absent' : 'zero');
  }

  /** @throws OUT_OF_RANGE, IMAGE_CORRUPT (a BAT entry in the range is wrong), IO_FAILED */
  locate(offset: number, length: number): Promise<Extent[]> {
    return this.#reader.locate(offset, length);
  }

  layout(): Promise<ImageLayout> {
    return this.#reader.layout();
  }

  async check(options: CheckOptions = {}): Promise<Finding[]> {
    return [...this.warnings, ...(await checkSparse(this.#structures, this.#bat, options))];
  }
}
