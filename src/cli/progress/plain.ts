/**
 * Progress as plain lines, for logs: one every two seconds and one at the end.
 */
import { formatSize } from '../../base/bytes.js';
import type { Work } from '../../operations/host.js';
import { durationText } from '../render/text.js';
import { Estimate } from './estimate.js';
import type { Progress, ProgressOutput } from './progress.js';

const INTERVAL_MS = 2000;

export class PlainProgress implements Progress {
  readonly estimates = true;
  readonly #output: ProgressOutput;
  readonly #description: string;
  readonly #now: () => number;
  readonly #estimate: Estimate;
  #printedAt = Number.NEGATIVE_INFINITY;
  #unprinted: { done: number; total: number } | undefined;

  constructor(output: ProgressOutput, description: string, now: () => number = () => performance.now()) {
    this.#output = output;
    this.#description = description;
    this.#now = now;
    this.#estimate = new Estimate(now());
  }

  update(done: number, total: number, work?: Work): void {
    this.#unprinted = { done, total };
    const now = this.#now();
    this.#estimate.note(done, total, now, work);
    if (now - this.#printedAt >= INTERVAL_MS) this.#print(now);
  }

  stop(): void {
    this.#print(this.#now());
  }

  #print(now: number): void {
    if (!this.#unprinted) return;
    const { done, total } = this.#unprinted;
    this.#unprinted = undefined;
    this.#printedAt = now;
    const percent = total > 0 ? Math.floor((done / total) * 1000) / 10 : 100;
    const parts = [
      `${this.#description}: ${percent.toFixed(1)} %`,
      `${formatSize(done)} of ${formatSize(total)}`,
    ];
    const rate = done < total ? this.#estimate.rate : this.#estimate.averageRate(now);
    if (rate) parts.push(`${formatSize(Math.round(rate))}/s`);
    const left = this.#estimate.remainingMs;
    if (left !== undefined && done < total) parts.push(`${durationText(left)} left`);
    this.#output.write(`${parts.join(', ')}\n`);
  }
}
