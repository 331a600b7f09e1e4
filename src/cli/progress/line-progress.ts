/**
 * What progress in lines has in common, whatever a line looks like: not more often than the interval, the
 * last state in any case, and never the same state twice.
 */
import type { Work } from '../../operations/host.js';
import { Estimate } from './estimate.js';
import type { Progress, ProgressOutput } from './progress.js';

/** What a line is made of. Bytes, bytes per second, milliseconds; undefined while unknown. */
export interface LineState {
  done: number;
  total: number;
  work: Work | undefined;
  elapsedMs: number;
  rate: number | undefined;
  remainingMs: number | undefined;
}

export abstract class LineProgress implements Progress {
  readonly estimates = true;
  protected readonly description: string;
  readonly #output: ProgressOutput;
  readonly #intervalMs: number;
  readonly #now: () => number;
  readonly #start: number;
  readonly #estimate: Estimate;
  #printedAt = Number.NEGATIVE_INFINITY;
  #unprinted: Pick<LineState, 'done' | 'total' | 'work'> | undefined;

  constructor(
    output: ProgressOutput,
    description: string,
    intervalMs: number,
    now: () => number = () => performance.now(),
  ) {
    this.#output = output;
    this.description = description;
    this.#intervalMs = intervalMs;
    this.#now = now;
    this.#start = now();
    this.#estimate = new Estimate(this.#start);
  }

  /** The line, without its end. */
  protected abstract line(state: LineState): string;

  update(done: number, total: number, work?: Work): void {
    this.#unprinted = { done, total, work };
    const now = this.#now();
    this.#estimate.note(done, total, now, work);
    if (now - this.#printedAt >= this.#intervalMs) this.#print(now);
  }

  stop(): void {
    this.#print(this.#now());
  }

  #print(now: number): void {
    const state = this.#unprinted;
    if (!state) return;
    this.#unprinted = undefined;
    this.#printedAt = now;
    const rate = state.done < state.total ? this.#estimate.rate : this.#estimate.averageRate(now);
    const remainingMs = this.#estimate.remainingMs;
    this.#output.write(`${this.line({ ...state, elapsedMs: now - this.#start, rate, remainingMs })}\n`);
  }
}
