/**
 * Moves the disk's bytes in slices, with a checkpoint after each slice that took long enough.
 *
 * Invariant: a checkpoint is recorded after the target's data and tables are durable, and says only what
 * they hold. Work that ends quickly is never slowed down by one.
 */

import { MiB } from '../../base/bytes.js';
import type { Clock } from '../../base/clock.js';
import { type Extent, walkExtents } from '../../block/extent.js';
import type { DiskImage } from '../../formats/disk-image.js';
import { type SessionOptions, transfer } from '../../offload/transfer-session.js';
import type { BytesMoved } from '../../offload/transfer-types.js';
import { add } from '../bytes-moved.js';

/** Longest range handed over at once: bounds the wait for progress, cancellation and checkpoints. */
export const MAX_REQUEST = 256 * MiB;
/** Time between checkpoints in milliseconds: what a killed process loses at most, about. */
export const CHECKPOINT_INTERVAL = 2000;

export interface MoveParts {
  /** The disk to read: a chain, or something in front of one. */
  source: { readonly virtualSize: number; locate(offset: number, length: number): Promise<Extent[]> };
  target: DiskImage;
  session: SessionOptions;
  clock: Clock;
  /** Where to start; everything before is in the target. */
  position: number;
  /** What earlier runs moved. */
  bytes: BytesMoved;
  /** Milliseconds. */
  interval: number;
  /** Called after a slice when it is time; everything in front of `position` is durable then. */
  checkpoint?: (position: number, bytes: BytesMoved) => Promise<void>;
}

/** Takes extents from a walk until time is up; remembers how far it came. */
class Slice {
  end: number;
  finished = false;

  constructor(start: number) {
    this.end = start;
  }

  async *take(walk: AsyncIterator<Extent>, isTimeUp: () => boolean): AsyncGenerator<Extent> {
    for (;;) {
      const step = await walk.next();
      if (step.done) {
        this.finished = true;
        return;
      }
      // Set before handing it out: the session may not come back for more.
      this.end = step.value.offset + step.value.length;
      yield step.value;
      if (isTimeUp()) return;
    }
  }
}

/** Moves everything from `position` on. Returns what all runs together moved. */
export async function moveDisk(parts: MoveParts): Promise<BytesMoved> {
  const { source, target, clock, checkpoint, interval } = parts;
  const range = { offset: parts.position, length: source.virtualSize - parts.position };
  const walk = walkExtents(source, range, MAX_REQUEST);
  const { onProgress } = parts.session;
  let { bytes, position } = parts;
  onProgress?.(position);
  try {
    for (;;) {
      const started = clock.now();
      const slice = new Slice(position);
      const base = position;
      const session: SessionOptions = { ...parts.session };
      if (onProgress) session.onProgress = (done) => onProgress(base + done);
      const isTimeUp = (): boolean => checkpoint !== undefined && clock.now() - started >= interval;
      bytes = add(bytes, await transfer(slice.take(walk, isTimeUp), target, session));
      position = slice.end;
      if (slice.finished) return bytes;
      await target.flush();
      await checkpoint?.(position, bytes);
    }
  } finally {
    await walk.return(undefined);
  }
}
