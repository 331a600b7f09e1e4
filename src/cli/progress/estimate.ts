/**
 * Rate and remaining time of work of which a part costs next to nothing.
 *
 * Sharing extents and skipping zeros go through gigabytes in milliseconds, copying does not. So bytes that
 * cost (read or copied) and bytes that are free have speeds of their own: what is left of each is divided
 * by its own speed. Where nobody tells them apart, all bytes cost.
 *
 * The speed of what costs is weighted towards the recent past: bytes and time both fade with a time
 * constant of five seconds and the speed is their quotient, which is right from the first measurement on,
 * steady enough to read, and quick enough to follow a target that slows down.
 *
 * Invariants: answers are finite and not negative, or undefined while there is nothing to go by; once
 * everything is done, nothing is left.
 */
import type { Work } from '../../operations/host.js';

const FADE_MS = 5000;
/** Moments closer than this are put together. */
const STEP_MS = 50;

export class Estimate {
  readonly #start: number;
  /** When the speeds were last brought up to date, and how far things were then. */
  #at: number;
  #doneThen = 0;
  #copiedThen = 0;
  /** The present state. */
  #done = 0;
  #total = 0;
  #work: Work = { done: 0, total: 0 };
  /** Faded bytes and milliseconds of what costs. */
  #costBytes = 0;
  #costTime = 0;
  #freeBytes = 0;
  #freeTime = 0;

  /** @param now milliseconds */
  constructor(now: number) {
    this.#start = now;
    this.#at = now;
  }

  /** Takes note of how far things are at a moment. */
  note(done: number, total: number, now: number, work: Work = { done, total }): void {
    this.#done = done;
    this.#total = total;
    this.#work = work;
    const passed = now - this.#at;
    if (passed < STEP_MS) return;
    const copied = Math.max(0, work.done - this.#copiedThen);
    const free = Math.max(0, done - this.#doneThen - copied);
    // An interval with a bit of everything went by with copying; one with nothing, with waiting for it.
    if (copied > 0 || (free === 0 && work.total > work.done)) {
      const keep = Math.exp(-passed / FADE_MS);
      this.#costBytes = this.#costBytes * keep + copied;
      this.#costTime = this.#costTime * keep + passed;
    } else {
      this.#freeBytes += free;
      this.#freeTime += passed;
    }
    this.#at = now;
    this.#doneThen = done;
    this.#copiedThen = work.done;
  }

  /** Bytes per second of what costs, or of all when nothing did so far; undefined at first. */
  get rate(): number | undefined {
    if (this.#costBytes > 0) return (this.#costBytes * 1000) / this.#costTime;
    return this.#freeBytes > 0 ? (this.#freeBytes * 1000) / this.#freeTime : undefined;
  }

  /** Bytes per second over the whole run; undefined when it took less than a millisecond. */
  averageRate(now: number): number | undefined {
    const passed = now - this.#start;
    const bytes = this.#work.done > 0 ? this.#work.done : this.#done;
    return passed >= 1 ? (bytes * 1000) / passed : undefined;
  }

  /** Milliseconds until everything is done; undefined before there is anything to go by. */
  get remainingMs(): number | undefined {
    const left = Math.max(0, this.#total - this.#done);
    if (left === 0) return 0;
    const toCopy = Math.min(left, Math.max(0, this.#work.total - this.#work.done));
    if (toCopy > 0 && this.#costBytes <= 0) return undefined;
    if (toCopy === 0 && this.#freeBytes <= 0 && this.#costBytes <= 0) return undefined;
    const copying = toCopy > 0 ? (toCopy * this.#costTime) / this.#costBytes : 0;
    const free = this.#freeBytes > 0 ? ((left - toCopy) * this.#freeTime) / this.#freeBytes : 0;
    const sum = copying + free;
    return Number.isFinite(sum) ? sum : undefined;
  }
}
