/**
 * A scratch disk over another one: what is written goes into a file of its own, the rest shows what lies below.
 *
 * Invariants: the device below is only read. A block of 4 KiB is either below or in the scratch file, and is
 * taken to be there only when all of it has been put there. Memory: one bit for each block that was written, in
 * pages made on demand.
 *
 * Deliberately forgetful: which blocks were written is in memory only, so the file is worth nothing without the
 * process. What is to be kept goes into a differencing image.
 */

import { KiB, roundDown, roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import { GroupCommit } from '../../base/group-commit.js';
import { RangeLock } from '../../base/range-lock.js';
import type { Timer } from '../../base/timer.js';
import type {
  BlockDevice,
  DeviceCapabilities,
  DeviceExtent,
  DeviceWriteOptions,
  DeviceZeroOptions,
} from '../../block/block-device.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { BlockSet } from './block-set.js';
import { allEnded, pushRuns } from './chain-reader.js';
import { QuickWriter } from './quick-writer.js';

const BLOCK = 4 * KiB;
/** Runs that one answer of `extents` holds at most. */
const MAX_EXTENTS = 1024;

/** A run of blocks on one side. Bytes. */
interface Run {
  offset: number;
  length: number;
  here: boolean;
}

export class OverlayDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize = 1;
  readonly preferredSize = BLOCK;
  readonly capabilities: DeviceCapabilities;
  readonly #below: BlockDevice;
  readonly #scratch: RandomAccessFile;
  readonly #written: BlockSet;
  readonly #locks = new RangeLock();
  readonly #quick: QuickWriter;
  readonly #flushes: GroupCommit<void>;

  /** Both belong to the overlay from now on. @param scratch empty */
  constructor(below: BlockDevice, scratch: RandomAccessFile, timer: Timer) {
    this.#quick = new QuickWriter(timer);
    this.#below = below;
    this.#scratch = scratch;
    this.label = below.label;
    this.size = below.size;
    this.#written = new BlockSet(Math.ceil(below.size / BLOCK));
    this.#flushes = new GroupCommit(() => scratch.flush());
    const punches = scratch.punch !== undefined;
    this.capabilities = {
      writable: true,
      trim: punches,
      zero: true,
      fastZero: false,
      extents: true,
      multiConn: true,
    };
  }

  readNow(buffer: Uint8Array, offset: number): boolean {
    const run = this.#runAt(offset, buffer.length);
    if (run.length < buffer.length) return false;
    if (run.here) return this.#scratch.peek?.(buffer, offset) ?? false;
    return this.#below.readNow?.(buffer, offset) ?? false;
  }

  read(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#locks.hold(offset, buffer.length, 'shared', () => this.#readHeld(buffer, offset));
  }

  writeNow(bytes: Uint8Array, offset: number): boolean {
    const run = this.#runAt(offset, bytes.length);
    if (!run.here || run.length < bytes.length) return false;
    return this.#quick.write(this.#scratch, bytes, offset);
  }

  async write(bytes: Uint8Array, offset: number, options: DeviceWriteOptions = {}): Promise<void> {
    await this.#change(offset, bytes.length, async () => {
      await this.#fillEdges(offset, bytes.length);
      await this.#scratch.write(bytes, offset);
    });
    if (options.durable) await this.flush();
  }

  async zero(offset: number, length: number, options: DeviceZeroOptions = {}): Promise<void> {
    if (options.fast) {
      throw new VhdkitError('UNSUPPORTED', `${this.label}: an overlay has no quick way to zero a range`, {
        operation: 'zero range',
        context: { path: this.label, offset, length },
      });
    }
    await this.#change(offset, length, async () => {
      await this.#fillEdges(offset, length);
      await this.#scratch.zero(offset, length);
    });
    if (options.durable) await this.flush();
  }

  /** What was written is given back and reads as zeros; what lies below is left alone. */
  async trim(offset: number, length: number, options: DeviceWriteOptions = {}): Promise<void> {
    const start = roundUp(offset, BLOCK);
    const end = roundDown(offset + length, BLOCK);
    if (start < end) {
      await this.#locks.hold(start, end - start, 'exclusive', async () => {
        for (const run of this.#runs(start, end - start)) {
          if (run.here) await this.#scratch.punch?.(run.offset, run.length);
        }
      });
    }
    if (options.durable) await this.flush();
  }

  flush(): Promise<void> {
    return this.#flushes.add();
  }

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    const found: DeviceExtent[] = [];
    for (const run of this.#runs(offset, length)) {
      if (found.length >= MAX_EXTENTS) break;
      const { offset: start, here } = run;
      if (here) {
        const end = start + run.length;
        if (!pushRuns(found, { offset: start, end, file: this.#scratch, shift: 0, own: true })) break;
        continue;
      }
      const below = await this.#below.extents(run.offset, run.length);
      found.push(...below);
      const last = below.at(-1);
      if (last && last.offset + last.length < run.offset + run.length) break;
    }
    return found;
  }

  async close(): Promise<void> {
    try {
      await this.#scratch.close();
    } finally {
      await this.#below.close();
    }
  }

  /** A change of whole blocks, parts of which the caller fills; then they are here. */
  async #change(offset: number, length: number, work: () => Promise<void>): Promise<void> {
    const start = roundDown(offset, BLOCK);
    const end = roundUp(offset + length, BLOCK);
    const there = this.#runAt(start, Math.min(end, this.size) - start);
    // Nothing of it changes sides: others may do the same.
    const mode =
      there.here && there.offset + there.length >= Math.min(end, this.size) ? 'shared' : 'exclusive';
    await this.#locks.hold(start, end - start, mode, async () => {
      await work();
      this.#written.add(start / BLOCK, end / BLOCK);
    });
  }

  /** Blocks that are changed in part get the rest from below. */
  async #fillEdges(offset: number, length: number): Promise<void> {
    const end = offset + length;
    const edges = new Set<number>();
    if (offset % BLOCK !== 0) edges.add(roundDown(offset, BLOCK));
    if (end % BLOCK !== 0 && end < this.size) edges.add(roundDown(end, BLOCK));
    for (const edge of edges) {
      if (this.#written.has(edge / BLOCK)) continue;
      const block = new Uint8Array(Math.min(BLOCK, this.size - edge));
      await this.#below.read(block, edge);
      await this.#scratch.write(block, edge);
    }
  }

  async #readHeld(buffer: Uint8Array, offset: number): Promise<void> {
    const runs = [...this.#runs(offset, buffer.length)];
    await allEnded(
      runs.map(async (run) => {
        const part = buffer.subarray(run.offset - offset, run.offset - offset + run.length);
        if (!run.here) return this.#below.read(part, run.offset);
        const count = await this.#scratch.read(part, run.offset);
        part.fill(0, count);
      }),
    );
  }

  /** The run that begins at a place, clipped. */
  #runAt(offset: number, length: number): Run {
    const block = Math.floor(offset / BLOCK);
    const here = this.#written.has(block);
    const limit = Math.ceil((offset + length) / BLOCK);
    const stop = this.#written.next(block + 1, limit, !here);
    return { offset, length: Math.min(stop * BLOCK, offset + length) - offset, here };
  }

  *#runs(offset: number, length: number): Generator<Run> {
    for (let at = offset; at < offset + length; ) {
      const run = this.#runAt(at, offset + length - at);
      yield run;
      at += run.length;
    }
  }
}
