/**
 * Changing a disk through the top image of its chain, by many at once.
 *
 * Invariants: whoever uses a block's mapping holds the block shared, whoever changes it holds it exclusively:
 * bytes never go to a place that the block has lost meanwhile, and one write at a time is prepared in a block,
 * as formats demand. Bytes that have a place in the top image go there without the format being asked; the
 * first change of all goes through it, because that is when it marks its file as changed.
 *
 * A block that is given back never shows the parent: what was trimmed reads as zeros, or as it was.
 */
import { MiB, roundDown, roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import { RangeLock } from '../../base/range-lock.js';
import type { Timer } from '../../base/timer.js';
import type { DeviceZeroOptions } from '../../block/block-device.js';
import { putBytes } from '../../block/put-bytes.js';
import { splitRequest } from '../../block/split-request.js';
import type { Chain } from '../../formats/chain.js';
import type { EditableImage } from '../../formats/editable-image.js';
import type { Segment } from './block-cache.js';
import { allEnded, ChainReader } from './chain-reader.js';
import { QuickWriter } from './quick-writer.js';

/** Bytes that are held at a time while a long range is zeroed or given back. */
const WINDOW = 64 * MiB;
/** Zeros written at a time. */
const ZEROS = new Uint8Array(MiB);

export class ImageChanges {
  readonly reader: ChainReader;
  readonly #top: EditableImage;
  readonly #locks = new RangeLock();
  readonly #quick: QuickWriter;
  /** What is changed as a whole: a range of it is held by whoever changes its mapping. */
  readonly #block: number;
  /** The format knows that its file is being changed. */
  #begun = false;
  /** Whether ranges of the file can be given back; undefined: not tried yet. */
  #punches: boolean | undefined;

  constructor(chain: Chain, top: EditableImage, timer: Timer) {
    this.#quick = new QuickWriter(timer);
    this.#top = top;
    this.reader = new ChainReader(chain, (offset, length, work) =>
      this.#locks.hold(offset, length, 'shared', work),
    );
    this.#block = top.blockSize ?? top.logicalSectorSize;
  }

  /** See BlockDevice.writeNow. */
  writeNow(bytes: Uint8Array, offset: number): boolean {
    if (!this.#begun) return false;
    const segment = this.reader.known(offset, bytes.length);
    if (!segment?.own) return false;
    return segment.file !== undefined && this.#quick.write(segment.file, bytes, offset + segment.shift);
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    // Places may come and go between the two, by others.
    while (!(await this.#overwrite(bytes, offset)) && !(await this.#allocate(bytes, offset)));
  }

  async zero(offset: number, length: number, options: DeviceZeroOptions): Promise<void> {
    const { keepStorage = false, fast = false } = options;
    if (keepStorage) {
      if (fast) throw this.#notQuick(offset, length);
      await this.#writeZeros(offset, length);
      return;
    }
    const { head, body, tail } = splitRequest(offset, length, this.#top.logicalSectorSize);
    const start = offset + head;
    if (fast) await this.#assertQuick(offset, length);
    await this.#eachWindow(start, body, async (at, size) => {
      await this.#top.zero(at, size);
    });
    if (head > 0) await this.#writeZeros(offset, head);
    if (tail > 0) await this.#writeZeros(start + body, tail);
  }

  /** Whole sectors of it. Images of fixed size keep their storage. */
  async trim(offset: number, length: number): Promise<void> {
    const { type, logicalSectorSize } = this.#top;
    if (type === 'fixed') return;
    const { head, body } = splitRequest(offset, length, logicalSectorSize);
    await this.#eachWindow(offset + head, body, async (at, size) => {
      if (type === 'dynamic') await this.#top.discard(at, size);
      else await this.#emptyBlocks(at, size);
      for (const segment of await this.reader.segments(at, size)) {
        if (segment.own && !(await this.#punch(segment))) break;
      }
    });
  }

  /** Into places that are there; false when they are not. */
  async #overwrite(bytes: Uint8Array, offset: number): Promise<boolean> {
    if (!this.#begun) return false;
    return this.#locks.hold(offset, bytes.length, 'shared', async () => {
      const segments = await this.reader.segments(offset, bytes.length);
      if (!segments.every(({ own }) => own)) return false;
      await allEnded(
        segments.map(async ({ file, shift, offset: from, end }) => {
          await file?.write(bytes.subarray(from - offset, end - offset), from + shift);
        }),
      );
      return true;
    });
  }

  /** Has the format make places; false when others made them meanwhile. */
  async #allocate(bytes: Uint8Array, offset: number): Promise<boolean> {
    return this.#holdBlocks(offset, bytes.length, async () => {
      if (this.#begun) {
        const segments = await this.reader.segments(offset, bytes.length);
        if (segments.every(({ own }) => own)) return false;
      }
      const { whole, from } = await this.#wholeSectors(bytes, offset);
      try {
        await putBytes(this.#top, from, whole);
        this.#begun = true;
      } finally {
        this.reader.forget(offset, bytes.length);
      }
      return true;
    });
  }

  /** Runs work that may change where a range is. */
  #holdBlocks<T>(offset: number, length: number, work: () => Promise<T>): Promise<T> {
    const start = roundDown(offset, this.#block);
    const end = roundUp(offset + length, this.#block);
    return this.#locks.hold(start, end - start, 'exclusive', work);
  }

  async #eachWindow(
    offset: number,
    length: number,
    work: (offset: number, length: number) => Promise<void>,
  ): Promise<void> {
    const window = roundUp(WINDOW, this.#block);
    for (let at = offset; at < offset + length; ) {
      const size = Math.min(window - (at % window), offset + length - at);
      await this.#holdBlocks(at, size, async () => {
        this.reader.forget(at, size);
        try {
          await work(at, size);
        } finally {
          this.reader.forget(at, size);
        }
      });
      at += size;
    }
  }

  /** The bytes with what is around them in the first and last sector. The caller holds the blocks. */
  async #wholeSectors(bytes: Uint8Array, offset: number): Promise<{ whole: Uint8Array; from: number }> {
    const { logicalSectorSize: sector, virtualSize } = this.#top;
    const from = roundDown(offset, sector);
    const to = Math.min(roundUp(offset + bytes.length, sector), virtualSize);
    if (to - from === bytes.length) return { whole: bytes, from };
    const whole = new Uint8Array(to - from);
    if (offset > from) await this.reader.readHeld(whole.subarray(0, Math.min(sector, whole.length)), from);
    const last = roundDown(to - 1, sector);
    if (to > offset + bytes.length) await this.reader.readHeld(whole.subarray(last - from), last);
    whole.set(bytes, offset - from);
    return { whole, from };
  }

  async #writeZeros(offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += ZEROS.length) {
      await this.write(ZEROS.subarray(0, Math.min(ZEROS.length, length - at)), offset + at);
    }
  }

  /** Whole blocks of a differencing VHDX become zeros without storage; a VHD has no such state. */
  async #emptyBlocks(offset: number, length: number): Promise<void> {
    if (this.#top.format !== 'vhdx') return;
    const { head, body } = splitRequest(offset, length, this.#block);
    for (let at = offset + head; at < offset + head + body; at += this.#block) {
      const segments = await this.reader.segments(at, this.#block);
      if (!segments.some(({ own }) => own)) continue;
      this.reader.forget(at, this.#block);
      await this.#top.zero(at, this.#block);
    }
  }

  /** Gives back a range in its place, where it reads as zeros then. The caller holds the block. */
  async #punch({ file, offset, end, shift }: Segment): Promise<boolean> {
    if (this.#punches === false || !file?.punch) return false;
    if (!this.#begun) {
      const { logicalSectorSize } = this.#top;
      const from = roundDown(offset, logicalSectorSize);
      const prepared = await this.#top.prepareWrite(
        from,
        Math.min(logicalSectorSize, this.#top.virtualSize - from),
      );
      await prepared.commit();
      this.#begun = true;
    }
    this.#punches = await file.punch(offset + shift, end - offset);
    return this.#punches;
  }

  /** Only the ends of a range may be parts of blocks, which are zeroed in place. */
  async #assertQuick(offset: number, length: number): Promise<void> {
    if (this.#punches === true) return;
    const { head, body, tail } = splitRequest(offset, length, this.#top.logicalSectorSize);
    if (head + tail > 0 && body === 0) return;
    const start = offset + head;
    const stop = start + body;
    const first = Math.min(stop, roundUp(start + 1, this.#block)) - start;
    const last = stop - Math.max(start, roundDown(stop - 1, this.#block));
    for (const [at, size] of [
      [start, first],
      [stop - last, last],
    ] as const) {
      await this.#holdBlocks(at, size, async () => {
        const own = (await this.reader.segments(at, size)).find((segment) => segment.own);
        if (own && !(await this.#punch(own))) throw this.#notQuick(offset, length);
      });
    }
  }

  #notQuick(offset: number, length: number): VhdkitError {
    const { path } = this.#top.file;
    return new VhdkitError('UNSUPPORTED', `${path} has no quick way to zero this range`, {
      operation: 'zero range',
      context: { path, offset, length },
    });
  }
}
