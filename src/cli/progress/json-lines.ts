/**
 * Progress for programs: one JSON object per line, `{transferred, size, elapsed, description, work, rate,
 * remaining}`. `transferred` and `size` are bytes of the virtual disk, `work` counts those of them that
 * must be read or copied (null where nobody knows), `rate` is bytes per second of such work, `elapsed` and
 * `remaining` are seconds; null while unknown. The last line tells the last state.
 */
import type { Work } from '../../operations/host.js';
import { Estimate } from './estimate.js';
import type { Progress, ProgressOutput } from './progress.js';

const INTERVAL_MS = 200;

interface State {
  done: number;
  total: number;
  work: Work | undefined;
}

export class JsonProgress implements Progress {
  readonly estimates = true;
  readonly #output: ProgressOutput;
  readonly #description: string;
  readonly #now: () => number;
  readonly #start: number;
  readonly #estimate: Estimate;
  #printedAt = Number.NEGATIVE_INFINITY;
  #unprinted: State | undefined;

  constructor(output: ProgressOutput, description: string, now: () => number = () => performance.now()) {
    this.#output = output;
    this.#description = description;
    this.#now = now;
    this.#start = now();
    this.#estimate = new Estimate(this.#start);
  }

  update(done: number, total: number, work?: Work): void {
    this.#unprinted = { done, total, work };
    const now = this.#now();
    this.#estimate.note(done, total, now, work);
    if (now - this.#printedAt >= INTERVAL_MS) this.#print(now);
  }

  stop(): void {
    this.#print(this.#now());
  }

  #print(now: number): void {
    if (!this.#unprinted) return;
    const { done, total, work } = this.#unprinted;
    this.#unprinted = undefined;
    this.#printedAt = now;
    const rate = done < total ? this.#estimate.rate : this.#estimate.averageRate(now);
    const left = this.#estimate.remainingMs;
    const line = {
      transferred: done,
      size: total,
      elapsed: seconds(now - this.#start),
      description: this.#description,
      work: work ? { transferred: work.done, size: work.total } : null,
      rate: rate === undefined ? null : Math.round(rate),
      remaining: left === undefined ? null : seconds(left),
    };
    this.#output.write(`${JSON.stringify(line)}\n`);
  }
}

function seconds(milliseconds: number): number {
  return Math.round(milliseconds) / 1000;
}
