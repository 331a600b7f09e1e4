/**
 * Does a range of a disk hold only zeros, or just what its parent shows?
 *
 * Reads as little as the answer takes: what is not zero shows it within the first bytes mostly, so a look at
 * 4 KiB comes first. Holes of the file are not read at all. Buffers are used again and again.
 */
import { KiB } from '../../base/bytes.js';
import { isZero } from '../../base/zeros.js';
import type { DataExtent, Locator } from '../../block/extent.js';
import { readDisk } from '../../formats/image-reader.js';

const FIRST_LOOK = 4 * KiB;
const STEP = 256 * KiB;

export class ContentScan {
  readonly #mine = Buffer.alloc(STEP);
  readonly #theirs = Buffer.alloc(STEP);
  /** Bytes read so far. */
  read = 0;

  /** True when the stored bytes of the extent are all zero. */
  async isZero({ file, fileOffset, length }: DataExtent): Promise<boolean> {
    const end = fileOffset + length;
    let step = FIRST_LOOK;
    for (let at = fileOffset; at < end; ) {
      const data = file.nextData(at, end);
      if (!data) return true;
      const size = Math.min(step, data.length);
      const count = await file.read(this.#mine.subarray(0, size), data.offset);
      this.read += count;
      if (!isZero(this.#mine.subarray(0, count))) return false;
      // A short count is the end of the file: what is missing reads as zeros.
      at = data.offset + size;
      step = STEP;
    }
    return true;
  }

  /** True when `below` shows the same bytes as are stored in the extent; what lies behind its end is zero. */
  async isSame({ file, fileOffset, offset, length }: DataExtent, below: Locator): Promise<boolean> {
    let step = FIRST_LOOK;
    for (let done = 0; done < length; ) {
      const size = Math.min(step, length - done);
      const mine = this.#mine.subarray(0, size);
      const theirs = this.#theirs.subarray(0, size);
      mine.fill(0, await file.read(mine, fileOffset + done));
      const shown = Math.max(0, Math.min(size, below.virtualSize - offset - done));
      theirs.fill(0, shown);
      if (shown > 0) await readDisk(below, theirs.subarray(0, shown), offset + done);
      this.read += size;
      if (mine.compare(theirs) !== 0) return false;
      done += size;
      step = STEP;
    }
    return true;
  }
}
