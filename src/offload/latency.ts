/**
 * How long providers take between two devices, as measured while they work.
 *
 * The model is "so much per call, and so much per byte": a line through the measurements of a pair, of which
 * each weighs less than the one after it (weight falls by half in about seven calls).
 *
 * Invariants: an estimate is never negative, and never older than a minute: who is not asked any more would
 * never be found to have become quicker. Memory is bounded; pairs not measured for longest are forgotten.
 */
import { MiB } from '../base/bytes.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import { deviceKey } from './file-keys.js';

const DECAY = 0.9;
/** Milliseconds for which a measurement says something. */
const VALID_FOR = 60_000;
const MAX_PAIRS = 1024;

/** Length of a piece that a provider is tried with, in bytes: what a wrong choice costs at most. */
export const TRIAL_LENGTH = 4 * MiB;

/** Weighted sums over measurements: x is the length in MiB, y the time in milliseconds. */
interface Sums {
  weight: number;
  x: number;
  y: number;
  xx: number;
  xy: number;
  at: number;
}

function add(sums: Sums | undefined, x: number, y: number, at: number): Sums {
  const old = sums ?? { weight: 0, x: 0, y: 0, xx: 0, xy: 0, at };
  return {
    weight: DECAY * old.weight + 1,
    x: DECAY * old.x + x,
    y: DECAY * old.y + y,
    xx: DECAY * old.xx + x * x,
    xy: DECAY * old.xy + x * y,
    at,
  };
}

/** Milliseconds for `x` MiB. */
function estimate({ weight, x: sx, y: sy, xx, xy }: Sums, x: number): number {
  const spread = weight * xx - sx * sx;
  const perByte = sy / sx;
  // Lengths all but equal tell nothing of what a call costs by itself.
  if (spread <= 1e-6 * weight * xx) return perByte * x;
  const slope = (weight * xy - sx * sy) / spread;
  const base = (sy - slope * sx) / weight;
  if (slope < 0) return sy / weight;
  return base < 0 ? perByte * x : base + slope * x;
}

export class LatencyMemory {
  readonly #clock: { now(): number };
  readonly #pairs = new Map<string, Sums>();

  /** @param clock milliseconds with fractions, from any moment on, never going back */
  constructor(clock: { now(): number }) {
    this.#clock = clock;
  }

  /** Expected milliseconds; undefined when nothing is known, or not any more. */
  estimate(
    provider: string,
    source: RandomAccessFile | undefined,
    target: RandomAccessFile,
    length: number,
  ): number | undefined {
    const sums = this.#pairs.get(keyFor(provider, source, target));
    if (!sums || this.#clock.now() - sums.at > VALID_FOR) return undefined;
    return estimate(sums, length / MiB);
  }

  /** Does the work, and takes note of how long it took for the bytes that it says it did. */
  async measure<T>(
    provider: string,
    source: RandomAccessFile | undefined,
    target: RandomAccessFile,
    work: () => Promise<T>,
    bytesOf: (result: T) => number,
  ): Promise<T> {
    const started = this.#clock.now();
    const result = await work();
    const length = bytesOf(result);
    if (length > 0) this.#record(keyFor(provider, source, target), length, started);
    return result;
  }

  #record(key: string, length: number, started: number): void {
    const now = this.#clock.now();
    const sums = this.#pairs.get(key);
    const current = sums && now - sums.at <= VALID_FOR ? sums : undefined;
    this.#pairs.delete(key);
    this.#pairs.set(key, add(current, length / MiB, now - started, now));
    const [oldest] = this.#pairs.keys();
    if (this.#pairs.size > MAX_PAIRS && oldest !== undefined) this.#pairs.delete(oldest);
  }
}

function keyFor(provider: string, source: RandomAccessFile | undefined, target: RandomAccessFile): string {
  return `${provider}\n${source ? deviceKey(source) : ''}\n${deviceKey(target)}`;
}
