/**
 * A disk that is spread over several files in turns, as RAID 0 does it: the first chunk lies at the start of
 * the first file, the next at the start of the second, and so on round and round.
 *
 * Invariant: what a range of the disk touches of one file is one run of that file. So a read of any length
 * needs one token for each file at most.
 *
 * For reading. Where the chunks lie beyond plain files (superblocks, offsets) is the caller's business.
 */
import { assert } from '../base/assert.js';
import { VhdkitError } from '../base/errors.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { DataExtent, Locator } from './extent.js';

/** Extents of one answer: 16 GiB at 64 KiB a chunk. Whoever wants more walks (`walkExtents`). */
const MAX_EXTENTS = 262_144;

export class StripedSource implements Locator {
  readonly members: readonly RandomAccessFile[];
  /** Bytes. */
  readonly chunkSize: number;
  readonly virtualSize: number;

  /**
   * @param members in the order of the turns, at least one
   * @param chunkSize bytes, at least 1
   * @throws INVALID_ARGUMENT
   */
  constructor(members: readonly RandomAccessFile[], chunkSize: number) {
    if (members.length === 0 || !Number.isSafeInteger(chunkSize) || chunkSize < 1) {
      throw new VhdkitError('INVALID_ARGUMENT', 'A striped disk has files, and chunks of at least a byte', {
        operation: 'open striped disk',
        context: { members: members.length, chunkSize },
      });
    }
    this.members = [...members];
    this.chunkSize = chunkSize;
    // Chunks that some file does not have are in no file: the shortest one ends the disk.
    const shortest = Math.min(...members.map((file) => file.size()));
    this.virtualSize = Math.floor(shortest / chunkSize) * chunkSize * members.length;
  }

  /** @throws OUT_OF_RANGE, INVALID_ARGUMENT (more chunks than one answer may have) */
  async locate(offset: number, length: number): Promise<DataExtent[]> {
    const end = offset + length;
    if (offset < 0 || length < 0 || end > this.virtualSize) {
      throw new VhdkitError('OUT_OF_RANGE', `The striped disk has ${this.virtualSize} bytes`, {
        operation: 'locate',
        context: { offset, length, size: this.virtualSize },
      });
    }
    if (length / this.chunkSize > MAX_EXTENTS) {
      throw new VhdkitError('INVALID_ARGUMENT', `More than ${MAX_EXTENTS} chunks at a time`, {
        operation: 'locate',
        context: { offset, length, chunkSize: this.chunkSize },
        hint: 'Ask for shorter ranges, one after the other.',
      });
    }
    const extents: DataExtent[] = [];
    for (let at = offset; at < end; ) {
      const extent = this.#at(at, end);
      extents.push(extent);
      at += extent.length;
    }
    return extents;
  }

  #at(offset: number, end: number): DataExtent {
    const { chunkSize, members } = this;
    const chunk = Math.floor(offset / chunkSize);
    const within = offset - chunk * chunkSize;
    const file = members[chunk % members.length];
    assert(file, 'each chunk has a file');
    return {
      state: 'data',
      offset,
      length: Math.min(chunkSize - within, end - offset),
      file,
      fileOffset: Math.floor(chunk / members.length) * chunkSize + within,
    };
  }
}
