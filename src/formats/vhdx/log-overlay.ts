/**
 * Log replay in memory (MS-VHDX 2.3.3): the image's file as it would be after replay, without a byte of
 * it being changed.
 *
 * Invariant: only positions are kept (where in the log a page's new content is), never the content, so
 * memory is bounded by the log's number of sectors; replayed places are read on demand. The changes are
 * taken from the newest back to the oldest and the first one to claim a page wins, which is the same as
 * applying them in order.
 *
 * `writeInto` replays for good. The view is of no use afterwards, once the log's space is written again.
 */
import { toSafeNumber } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { ByteRange, FileFingerprint, FileKind, RandomAccessFile } from '../../io/random-access-file.js';
import { readExact } from './binary.js';
import { vhdxCorrupt } from './defects.js';
import { IntervalSet } from './interval-set.js';
import { FIRST_LOGGED_OFFSET, MAX_FILE_OFFSET } from './layout.js';
import {
  DESCRIPTOR_LENGTH,
  decodeDescriptor,
  descriptorOffset,
  descriptorSectors,
  LOG_SECTOR,
  type LogDescriptor,
  restorePage,
} from './log-codec.js';
import type { ActiveSequence, LogEntry, LogRing } from './log-scan.js';

/** Ours: a log of 1 MiB holds at most 32 640 changes. */
const MAX_DESCRIPTORS = 2 ** 18;
const MAX_ZERO_RANGES = 2 ** 14;

/** Where in the file the two parts of a replayed page are. */
interface PageSource {
  descriptorAt: number;
  sectorAt: number;
}

/** Read-only view of a file with the log's changes laid over it. Closing it leaves the file open. */
export class LogOverlayFile implements RandomAccessFile {
  readonly kind: FileKind = 'memory';
  readonly writable = false;
  readonly fd = undefined;
  readonly path: string;
  readonly #base: RandomAccessFile;
  readonly #size: number;
  readonly #pages: ReadonlyMap<number, PageSource>;
  readonly #sortedPages: Float64Array;
  readonly #zeros: IntervalSet;

  constructor(
    base: RandomAccessFile,
    size: number,
    pages: ReadonlyMap<number, PageSource>,
    zeros: IntervalSet,
  ) {
    this.path = base.path;
    this.#base = base;
    this.#size = size;
    this.#pages = pages;
    this.#sortedPages = Float64Array.from(pages.keys()).sort();
    this.#zeros = zeros;
  }

  size(): number {
    return this.#size;
  }

  /** True when replay changes any byte of the range. */
  changes(offset: number, length: number): boolean {
    if (this.#zeros.intersects(offset, offset + length)) return true;
    const page = this.#sortedPages[this.#firstPageFrom(Math.floor(offset / LOG_SECTOR))];
    return page !== undefined && page * LOG_SECTOR < offset + length;
  }

  async read(buffer: Uint8Array, offset: number): Promise<number> {
    const length = Math.max(0, Math.min(buffer.length, this.#size - offset));
    if (length === 0) return 0;
    const target = buffer.subarray(0, length);
    target.fill(0, await this.#base.read(target, offset));
    const end = offset + length;
    this.#zeros.forEachWithin(offset, end, (from, to) => target.fill(0, from - offset, to - offset));
    let index = this.#firstPageFrom(Math.floor(offset / LOG_SECTOR));
    for (; index < this.#sortedPages.length; index += 1) {
      const start = (this.#sortedPages[index] ?? 0) * LOG_SECTOR;
      if (start >= end) break;
      const page = await this.#page(start / LOG_SECTOR);
      const from = Math.max(start, offset);
      const to = Math.min(start + LOG_SECTOR, end);
      target.set(page.subarray(from - start, to - start), from - offset);
    }
    return length;
  }

  write(): Promise<void> {
    return Promise.reject(this.#readOnly());
  }

  zero(): Promise<void> {
    return Promise.reject(this.#readOnly());
  }

  truncate(): Promise<void> {
    return Promise.reject(this.#readOnly());
  }

  async flush(): Promise<void> {}

  nextData(offset: number, end: number): ByteRange | undefined {
    const stop = Math.min(end, this.#size);
    return offset < stop ? { offset, length: stop - offset } : undefined;
  }

  allocatedBytes(): Promise<number> {
    return this.#base.allocatedBytes();
  }

  fingerprint(): FileFingerprint | undefined {
    return undefined;
  }

  async close(): Promise<void> {}

  async #page(number: number): Promise<Uint8Array> {
    const page = new Uint8Array(LOG_SECTOR);
    const source = this.#pages.get(number);
    if (!source) return page;
    const descriptor = await readExact(this.#base, source.descriptorAt, DESCRIPTOR_LENGTH, 'the log');
    const sector = await readExact(this.#base, source.sectorAt, LOG_SECTOR, 'the log');
    restorePage(descriptor, sector, page);
    return page;
  }

  #firstPageFrom(page: number): number {
    let low = 0;
    let high = this.#sortedPages.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sortedPages[middle] ?? 0) < page) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * Replays for good: puts every change into its place and gives the file its length (MS-VHDX 2.3.3). Not
   * flushed. In file order, a page or a range of zeros at a time.
   */
  async writeInto(target: RandomAccessFile): Promise<void> {
    if (target.size() < this.#size) await target.truncate(this.#size);
    for (const range of this.#zeroRanges()) await target.zero(range.offset, range.length);
    for (const number of this.#sortedPages) {
      await target.write(await this.#page(number), number * LOG_SECTOR);
    }
  }

  #zeroRanges(): ByteRange[] {
    const ranges: ByteRange[] = [];
    this.#zeros.forEachWithin(0, MAX_FILE_OFFSET, (from, to) =>
      ranges.push({ offset: from, length: to - from }),
    );
    return ranges;
  }

  #readOnly(): VhdkitError {
    return new VhdkitError('READ_ONLY', `${this.path}: a replayed log is a view for reading`, {
      operation: 'write image',
      context: { path: this.path },
    });
  }
}

/**
 * Replays the sequence, from the entry its head names as tail to the head.
 * @throws IMAGE_CORRUPT (VHDX_LOG_FILE_TRUNCATED, VHDX_LOG_TARGET_INVALID, VHDX_LOG_TOO_COMPLEX), IO_FAILED
 */
export async function replayInMemory(ring: LogRing, sequence: ActiveSequence): Promise<LogOverlayFile> {
  const { file } = ring;
  const { head, entries } = sequence;
  const headAt = ring.at(head.position);
  // Only the head knows the file's length; older entries may be from before it shrank.
  if (head.flushedFileOffset > BigInt(file.size())) {
    const message = `the file is shorter (${file.size()} bytes) than its log says (${head.flushedFileOffset})`;
    throw vhdxCorrupt('VHDX_LOG_FILE_TRUNCATED', message, file.path, headAt);
  }
  if (head.lastFileOffset > BigInt(MAX_FILE_OFFSET)) {
    const message = `the log claims a file of ${head.lastFileOffset} bytes`;
    throw vhdxCorrupt('VHDX_LOG_TARGET_INVALID', message, file.path, headAt);
  }
  if (entries.reduce((sum, entry) => sum + entry.descriptorCount, 0) > MAX_DESCRIPTORS) {
    const message = 'the log holds more changes than can be replayed';
    throw vhdxCorrupt('VHDX_LOG_TOO_COMPLEX', message, file.path, headAt);
  }
  const replay = new Replay(ring, Math.max(file.size(), Number(head.lastFileOffset)));
  for (const entry of entries.toReversed()) await replay.add(entry);
  return replay.overlay();
}

/** Collects changes, newest first. */
class Replay {
  readonly #ring: LogRing;
  readonly #pages = new Map<number, PageSource>();
  readonly #zeros = new IntervalSet();
  #size: number;

  constructor(ring: LogRing, size: number) {
    this.#ring = ring;
    this.#size = size;
  }

  overlay(): LogOverlayFile {
    return new LogOverlayFile(this.#ring.file, this.#size, this.#pages, this.#zeros);
  }

  /** Takes an entry's descriptors from the last to the first. */
  async add(entry: LogEntry): Promise<void> {
    const dataStart = descriptorSectors(entry.descriptorCount) * LOG_SECTOR;
    let data = entry.dataDescriptors;
    let sector = new Uint8Array();
    let loaded = -1;
    for (let index = entry.descriptorCount - 1; index >= 0; index -= 1) {
      const within = descriptorOffset(index);
      const sectorStart = within - (within % LOG_SECTOR);
      if (sectorStart !== loaded) {
        sector = Uint8Array.from(await this.#ring.read(entry.position + sectorStart, LOG_SECTOR));
        loaded = sectorStart;
      }
      const at = within - sectorStart;
      const descriptor = decodeDescriptor(sector.subarray(at, at + DESCRIPTOR_LENGTH));
      const descriptorAt = this.#ring.at(entry.position + within);
      if (descriptor?.kind === 'data') {
        data -= 1;
        const sectorAt = this.#ring.at(entry.position + dataStart + data * LOG_SECTOR);
        this.#addPage(this.#target(descriptor, descriptorAt), { descriptorAt, sectorAt });
      } else if (descriptor) {
        this.#addZeros(this.#target(descriptor, descriptorAt), descriptorAt);
      }
    }
  }

  #addPage(target: ByteRange, source: PageSource): void {
    const page = target.offset / LOG_SECTOR;
    const claimed = this.#pages.has(page) || this.#zeros.intersects(target.offset, target.offset + 1);
    if (!claimed) this.#pages.set(page, source);
  }

  #addZeros(target: ByteRange, descriptorAt: number): void {
    this.#zeros.add(target.offset, target.offset + target.length);
    if (this.#zeros.size <= MAX_ZERO_RANGES) return;
    const message = 'the log zeroes more ranges than can be replayed';
    throw vhdxCorrupt('VHDX_LOG_TOO_COMPLEX', message, this.#ring.file.path, descriptorAt);
  }

  /** The checked range that a descriptor changes; the file grows to hold it. */
  #target(descriptor: LogDescriptor, descriptorAt: number): ByteRange {
    const offset = toSafeNumber(descriptor.offset);
    const length = descriptor.kind === 'data' ? LOG_SECTOR : toSafeNumber(descriptor.length);
    const fail = (message: string): Error =>
      vhdxCorrupt('VHDX_LOG_TARGET_INVALID', message, this.#ring.file.path, descriptorAt);
    if (offset === undefined || length === undefined || offset + length > MAX_FILE_OFFSET) {
      throw fail('a log entry changes a place beyond any real file');
    }
    if (offset % LOG_SECTOR !== 0 || length % LOG_SECTOR !== 0) {
      throw fail(`a log entry changes a misaligned range (${offset}, ${length} bytes)`);
    }
    const logEnd = this.#ring.offset + this.#ring.length;
    if (offset < FIRST_LOGGED_OFFSET || (offset < logEnd && offset + length > this.#ring.offset)) {
      throw fail(`a log entry changes the headers or the log itself (${offset}, ${length} bytes)`);
    }
    this.#size = Math.max(this.#size, offset + length);
    return { offset, length };
  }
}
