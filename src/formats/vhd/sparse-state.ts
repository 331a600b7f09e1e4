/**
 * A dynamic or differencing VHD that is being changed: its structures as they are now, in the file and
 * waiting to be written.
 *
 * Invariant: every part of the editor reads the same state, so that a change shows at once in all of them.
 * Not here: the order of writes (block-writer.ts, header-update.ts, resize-sparse.ts).
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { batmapRanges } from './batmap.js';
import type { BlockRules, MetadataRange } from './block-place.js';
import { BlockSpace } from './block-space.js';
import { surveyBlocks } from './block-survey.js';
import { vhdError } from './defects.js';
import { decodeHeader, HEADER_BYTES, HEADER_FIELD, headerChecksumOk } from './dynamic-header.js';
import { EditableBitmaps } from './editable-bitmaps.js';
import { EditableTable } from './editable-table.js';
import { FooterPair } from './footer-pair.js';
import { creatorOf, writeWindowsCreator } from './footer-size.js';
import { type ReadableLocator, readableLocators } from './parent-locator.js';
import type { SectorBitmap } from './sector-bitmap.js';
import { type BlockSource, SparseReader } from './sparse-reader.js';
import { fixedRanges, type SparseStructures } from './structures.js';

/** What blktap takes for granted has a batmap. */
const TAPDISK = 'tap\0';

export class SparseState implements BlockSource {
  readonly file: RandomAccessFile;
  readonly type: 'dynamic' | 'differencing';
  readonly footers: FooterPair;
  readonly table: EditableTable;
  readonly bitmaps: EditableBitmaps;
  readonly reader: SparseReader;
  readonly space: BlockSpace;
  headerOffset: number;
  /** The 1024 bytes as they are stored. */
  header: Uint8Array;
  virtualSize: number;
  locators: readonly ReadableLocator[];
  batmap: readonly MetadataRange[];
  #metadata: MetadataRange[] = [];
  #begun = false;

  private constructor(structures: SparseStructures, parts: StateParts) {
    const { file, table } = structures;
    this.file = file;
    this.type = structures.type === 'differencing' ? 'differencing' : 'dynamic';
    this.footers = parts.footers;
    this.header = parts.header;
    this.batmap = parts.batmap;
    this.headerOffset = structures.headerOffset;
    this.virtualSize = structures.virtualSize;
    this.locators = structures.locators;
    this.table = new EditableTable(file, table);
    this.bitmaps = new EditableBitmaps(file, table);
    this.refreshMetadata();
    this.reader = new SparseReader(this, this.type === 'differencing' ? 'absent' : 'zero');
    const rooms = this.locators.map(({ offset, room }) => Math.min(offset + room, this.footers.limit));
    const end = Math.max(parts.end, ...this.#metadata.map((range) => range.end), ...rooms);
    this.space = new BlockSpace(file, this.footers, end, table);
  }

  /**
   * Judges whether the image can be changed. Writes nothing.
   * @throws IMAGE_CORRUPT, UNSUPPORTED, READ_ONLY, IO_FAILED
   */
  static async of(structures: SparseStructures): Promise<SparseState> {
    const { file, headerOffset, table, limit } = structures;
    const footers = await FooterPair.of(structures);
    const header = new Uint8Array(HEADER_BYTES);
    await file.read(header, headerOffset);
    if (!headerChecksumOk(header)) {
      const message = 'the checksum of the dynamic header is wrong';
      const offset = headerOffset + HEADER_FIELD.checksum;
      throw vhdError('IMAGE_CORRUPT', 'VHD_HEADER_CHECKSUM', message, { path: file.path, offset });
    }
    const batmap = await batmapRanges(file, table, limit);
    const before = new SparseState(structures, { footers, header, batmap, end: 0 });
    const end = await surveyBlocks(before, file.path);
    return new SparseState(structures, { footers, header, batmap, end });
  }

  get rules(): BlockRules {
    return {
      table: this.table.table,
      virtualSize: this.virtualSize,
      limit: this.footers.limit,
      complete: this.footers.complete,
      tolerant: false,
      metadata: this.#metadata,
    };
  }

  entries(first: number, count: number): Promise<Uint32Array> {
    return this.table.entries(first, count);
  }

  pages(): AsyncIterable<{ first: number; entries: Uint32Array }> {
    return this.table.pages();
  }

  entryOffset(block: number): number {
    return this.table.entryOffset(block);
  }

  bitmap(block: number, offset: number): Promise<SectorBitmap> {
    return this.bitmaps.get(block, offset);
  }

  /** The header is another one, or elsewhere. */
  adoptHeader(header: Uint8Array, offset: number): void {
    this.header = header;
    this.headerOffset = offset;
    this.locators = readableLocators(decodeHeader(header), offset, this.footers.limit).locators;
    this.refreshMetadata();
  }

  /** To be called when header, table, locators or batmap have other places. */
  refreshMetadata(): void {
    this.#metadata = [
      ...fixedRanges(this.table.table, this.headerOffset),
      ...this.batmap,
      ...this.locators.map(({ code, offset, length }) => ({
        name: `the parent locator ${code}`,
        start: offset,
        end: offset + length,
      })),
    ];
  }

  /** False as long as nothing was changed. */
  get begun(): boolean {
    return this.#begun;
  }

  /** To be called before anything is written. */
  async begin(): Promise<void> {
    if (this.#begun) return;
    await this.footers.mend(this.space.footerPlace);
    this.#begun = true;
  }

  /**
   * blktap believes its batmap more than sector bitmaps. Where bits are to be cleared, or the batmap's place
   * is needed, the image stops being one of blktap's: other creators' images have none.
   */
  async dropBatmap(): Promise<void> {
    if (creatorOf(this.footers.bytes) === TAPDISK) await this.footers.change(writeWindowsCreator);
  }
}

interface StateParts {
  footers: FooterPair;
  header: Uint8Array;
  batmap: readonly MetadataRange[];
  /** Where the last block ends. */
  end: number;
}
