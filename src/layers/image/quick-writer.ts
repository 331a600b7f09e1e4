/**
 * Small writes without a promise: into memory where the system promises not to wait, else on this thread as long
 * as that is quick.
 *
 * Invariant: writing holds up everybody else for a small share of the time only. Storage that takes its time (much
 * is dirty already, a journal is full) makes writes go through the thread pool for a multiple of the time it took.
 */
import { KiB } from '../../base/bytes.js';
import type { Timer } from '../../base/timer.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';

/** Longer writes leave this thread alone. */
const LONGEST = 64 * KiB;
/** Milliseconds that a write may take and count as quick. */
const QUICK = 0.5;
/** How many times as long as a slow one took the next ones go elsewhere. */
const REST = 50;

export class QuickWriter {
  readonly #timer: Timer;
  #restUntil = 0;

  constructor(timer: Timer) {
    this.#timer = timer;
  }

  /** Writes inside the file. False when the caller has to write all of it by `file.write`. */
  write(file: RandomAccessFile, bytes: Uint8Array, offset: number): boolean {
    if (bytes.length > LONGEST) return false;
    if (file.poke?.(bytes, offset)) return true;
    if (!file.writeHere) return false;
    const start = this.#timer.now();
    if (start < this.#restUntil) return false;
    const written = file.writeHere(bytes, offset);
    const took = this.#timer.now() - start;
    if (took > QUICK) this.#restUntil = start + took * REST;
    return written;
  }
}
