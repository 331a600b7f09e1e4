/**
 * Two volumes over one base image and one copy-on-write image: a snapshot that nothing has to wait for.
 *
 * Before `split` there is one volume, and what is written goes to the base. `split` takes no time: requests that
 * arrived before it go on as requests of the *preserved* volume, later ones are of the *live* volume. Both
 * can be used at once from then on. Nobody waits for anybody, except who wants to say that the preserved volume is
 * made: until `earlierWrites` have ended it changes without being written to.
 *
 * - What is written through the live volume goes to the base; before that, the block's old data is copied to the
 *   copy-on-write image and the look-up table gets an entry. Only the live volume shows it.
 * - What is written through the preserved volume goes to the base too, so both volumes show it. A block written
 *   whole loses its entry; of one written in part, the copy gets the same bytes, because the rest of the block may
 *   be older there than in the base.
 * - The live volume reads the base; the preserved one the copy where there is an entry, else the base.
 *
 * Invariants: for every sector, what the two volumes show is what some order of the requests gives, an order in which
 * each takes effect between its arrival and its answer. The table names a copy only after it is durable, and the base
 * is overwritten only after that: after a crash the preserved volume shows what it showed.
 *
 * Locks are on ranges of addresses, apart from both images: a request waits for those that it meets in a block, and
 * then only where a copy is made or an entry goes.
 */
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import { Flights } from '../../base/flights.js';
import { GroupCommit } from '../../base/group-commit.js';
import { RangeLock } from '../../base/range-lock.js';
import type { BlockDevice, DeviceExtent } from '../../block/block-device.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { FailurePolicy } from '../failure-policy.js';
import type { Copies } from './copies.js';
import type { VolumeBreakReason } from './lookup-table.js';

export type Side = 'live' | 'preserved';

/** Copies of blocks at the addresses that they have in the base, and which there are. */
export interface CopyOnWriteImage extends Copies {
  /** What becomes of a live write when the old data can't be kept. Default: it fails. */
  readonly onFailure?: FailurePolicy;
}

/** A change of a range, on the base and on copies. */
export interface Change {
  offset: number;
  length: number;
  onBase(): Promise<void>;
  /** The part of the change in `[offset, offset + length)`, at the same address of the copies. */
  onCopy(data: RandomAccessFile, offset: number, length: number): Promise<void>;
}

const BREAK_REASONS: Record<VolumeBreakReason, string> = {
  'copy-failed': 'its data could not be kept',
  'image-changed': 'the image was changed by something else than vhdkit',
};

function broken(label: string, reason: VolumeBreakReason): VhdkitError {
  const why = BREAK_REASONS[reason];
  return new VhdkitError('IO_FAILED', `${label}: the preserved volume was given up: ${why}`, {
    operation: 'use preserved volume',
    context: { path: label, reason },
    hint: 'Delete it; the live volume is not affected.',
  });
}

function gone(label: string): VhdkitError {
  return new VhdkitError('IO_FAILED', `${label}: the preserved volume was deleted`, {
    operation: 'use preserved volume',
    context: { path: label, reason: 'deleted' },
    hint: 'Close whatever still uses it.',
  });
}

export class VolumePair {
  readonly base: BlockDevice;
  readonly locks = new RangeLock();
  #copies: CopyOnWriteImage | undefined;
  /** New entries of requests that are under way together cost one flush. */
  #commits: GroupCommit<readonly number[]> | undefined;
  /** Changes under way, from their arrival on. */
  readonly #changes = new Flights();
  /** Under way: they use the copies without a lock. */
  readonly #flushes = new Set<Promise<void>>();

  constructor(base: BlockDevice) {
    this.base = base;
  }

  get copies(): CopyOnWriteImage | undefined {
    return this.#copies;
  }

  /** Which volume a request belongs to that comes through the front door at this moment. */
  get arriving(): Side {
    return this.#copies ? 'live' : 'preserved';
  }

  /**
   * Begins the preserved volume, at this instant. The table may have entries of an earlier life.
   * @throws ALREADY_EXISTS, INVALID_ARGUMENT (made for another disk)
   */
  split(copies: CopyOnWriteImage): void {
    const { label, size } = this.base;
    if (this.#copies) {
      throw new VhdkitError('ALREADY_EXISTS', `${label} has a preserved volume already`, {
        operation: 'split volume',
        context: { path: label },
        hint: 'Delete it first, or take a write-once snapshot, of which there can be many.',
      });
    }
    if (copies.table.shape.size !== size) {
      throw new VhdkitError('INVALID_ARGUMENT', `The look-up table is not one of ${label}`, {
        operation: 'split volume',
        context: { path: label, size, found: copies.table.shape.size },
        hint: 'Use the files that were made for this image.',
      });
    }
    this.#copies = copies;
    this.#commits = new GroupCommit(async (items) => {
      await copies.data.flush();
      await copies.table.add(items.flat());
    });
  }

  /** Resolves when the changes have ended that are under way now; later ones are not waited for. */
  earlierWrites(): Promise<void> {
    return this.#changes.settled();
  }

  /** Ends the preserved volume. What is under way there finishes; the copies are given back to the caller. */
  async join(): Promise<CopyOnWriteImage | undefined> {
    const copies = this.#copies;
    this.#copies = undefined;
    // Whoever still works with the copies holds a part of the disk, or flushes.
    (await this.locks.take(0, Math.max(1, this.base.size), 'exclusive'))();
    await Promise.allSettled(this.#flushes);
    return copies;
  }

  /** Whether a request can go on without a lock, because it meets nobody who changes the table. */
  isSettled(side: Side, offset: number, length: number): boolean {
    return this.#needsNoCopy(side, offset, length) && this.locks.isFree(offset, length, 'shared');
  }

  /** A change through the preserved volume's own door. @throws IO_FAILED when it is deleted or was given up */
  async changePreserved(change: Change): Promise<void> {
    this.#assertPreserved();
    await this.change('preserved', change);
  }

  /** @param side the volume that the request belonged to when it arrived */
  async change(side: Side, change: Change): Promise<void> {
    const { offset, length } = change;
    if (length === 0) return;
    const flight = this.#changes.enter(offset, offset + length);
    try {
      await this.#change(side, change);
    } finally {
      this.#changes.leave(flight);
    }
  }

  async #change(side: Side, change: Change): Promise<void> {
    const { offset, length } = change;
    for (;;) {
      const mode = this.#needsNoCopy(side, offset, length) ? 'shared' : 'exclusive';
      const release = await this.#takeBlocks(offset, length, mode);
      try {
        if (mode === 'exclusive') return await this.#changeAlone(side, change);
        // While it waited, somebody may have made or taken entries.
        if (this.#needsNoCopy(side, offset, length)) return await change.onBase();
      } finally {
        release();
      }
    }
  }

  async readPreserved(buffer: Uint8Array, offset: number): Promise<void> {
    const release = await this.#takeBlocks(offset, buffer.length, 'shared');
    try {
      this.#assertPreserved();
      for (const run of this.#runs(offset, buffer.length)) {
        const part = buffer.subarray(run.offset - offset, run.offset - offset + run.length);
        if (run.copies) part.fill(0, await run.copies.data.read(part, run.offset));
        else await this.base.read(part, run.offset);
      }
    } finally {
      release();
    }
  }

  async extentsPreserved(offset: number, length: number): Promise<DeviceExtent[]> {
    const release = await this.#takeBlocks(offset, length, 'shared');
    try {
      this.#assertPreserved();
      const found: DeviceExtent[] = [];
      for (const run of this.#runs(offset, length)) {
        if (run.copies) {
          found.push({ offset: run.offset, length: run.length, hole: false, zero: false });
          continue;
        }
        const part = await this.base.extents(run.offset, run.length);
        found.push(...part);
        // The base said less than was asked: so do we.
        const last = part.at(-1);
        if (!last || last.offset + last.length < run.offset + run.length) break;
      }
      return found;
    } finally {
      release();
    }
  }

  /** Everything that was answered through either volume is durable afterwards. */
  async flush(): Promise<void> {
    const flush = this.#flush();
    this.#flushes.add(flush);
    try {
      await flush;
    } finally {
      this.#flushes.delete(flush);
    }
  }

  async #flush(): Promise<void> {
    const copies = this.#copies;
    const mark = copies?.table.removalsSoFar() ?? 0;
    await this.base.flush();
    if (!copies) return;
    await copies.data.flush();
    await copies.table.settle(mark);
  }

  /** Of what is asked of the preserved volume itself. */
  #assertPreserved(): void {
    const { label } = this.base;
    const reason = this.#copies?.table.broken;
    if (reason) throw broken(label, reason);
    if (!this.#copies) throw gone(label);
  }

  #blockSize(): number {
    return this.#copies?.table.shape.blockSize ?? this.base.preferredSize;
  }

  /** Whole blocks, so that two requests for parts of one block meet. */
  #takeBlocks(offset: number, length: number, mode: 'shared' | 'exclusive'): Promise<() => void> {
    const blockSize = this.#blockSize();
    const start = offset - (offset % blockSize);
    const end = Math.ceil((offset + length) / blockSize) * blockSize;
    return this.locks.take(start, end - start, mode);
  }

  #needsNoCopy(side: Side, offset: number, length: number): boolean {
    const copies = this.#copies;
    if (!copies || copies.table.broken) return true;
    const { blockSize } = copies.table.shape;
    const state = copies.table.state(
      Math.floor(offset / blockSize),
      Math.floor((offset + length - 1) / blockSize),
    );
    return state === (side === 'live' ? 'all' : 'none');
  }

  /** Nobody else is in these blocks. */
  async #changeAlone(side: Side, change: Change): Promise<void> {
    const copies = this.#copies;
    if (!copies || copies.table.broken) return change.onBase();
    if (side === 'live') {
      await this.#keepOld(copies, change);
      return change.onBase();
    }
    const whole: number[] = [];
    for (const { block, offset, length, full } of this.#parts(copies, change)) {
      if (!copies.table.has(block)) continue;
      if (full) whole.push(block);
      else await change.onCopy(copies.data, offset, length);
    }
    await change.onBase();
    for (const block of whole) copies.table.remove(block);
  }

  /** Copies of the blocks that have none, durable, with their entries. */
  async #keepOld(copies: CopyOnWriteImage, change: Change): Promise<void> {
    const missing = [...this.#parts(copies, change)].filter(({ block }) => !copies.table.has(block));
    const { blockSize, size } = copies.table.shape;
    try {
      for (const { block } of missing) {
        const start = block * blockSize;
        await this.#copy(copies, start, Math.min(blockSize, size - start));
      }
      await this.#commits?.add(missing.map(({ block }) => block));
    } catch (error) {
      if (copies.onFailure !== 'break-snapshot' || !isVhdkitError(error)) throw error;
      await copies.table.markBroken('copy-failed');
    }
  }

  async #copy(copies: CopyOnWriteImage, offset: number, length: number): Promise<void> {
    const buffer = new Uint8Array(length);
    await this.base.read(buffer, offset);
    await copies.data.write(buffer, offset);
  }

  *#parts(
    copies: CopyOnWriteImage,
    { offset, length }: Change,
  ): Generator<{ block: number; offset: number; length: number; full: boolean }> {
    const { blockSize, size } = copies.table.shape;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / blockSize);
      const stop = Math.min((block + 1) * blockSize, end);
      const full = at === block * blockSize && stop === Math.min((block + 1) * blockSize, size);
      yield { block, offset: at, length: stop - at, full };
      at = stop;
    }
  }

  /** Where the preserved volume has the range. */
  *#runs(
    offset: number,
    length: number,
  ): Generator<{ offset: number; length: number; copies: CopyOnWriteImage | undefined }> {
    const copies = this.#copies;
    if (!copies) {
      yield { offset, length, copies: undefined };
      return;
    }
    const { blockSize } = copies.table.shape;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const copied = copies.table.has(Math.floor(at / blockSize));
      let stop = at;
      while (stop < end && copies.table.has(Math.floor(stop / blockSize)) === copied) {
        stop = Math.min((Math.floor(stop / blockSize) + 1) * blockSize, end);
      }
      yield { offset: at, length: stop - at, copies: copied ? copies : undefined };
      at = stop;
    }
  }
}
