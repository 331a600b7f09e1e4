/**
 * Progress for programs: one JSON object per line, `{transferred, size, elapsed, description}`.
 * Bytes are those of the virtual disk; `elapsed` is in seconds. The last line tells the last state.
 */
import type { Progress, ProgressOutput } from './progress.js';

const INTERVAL_MS = 200;

export class JsonProgress implements Progress {
  readonly #output: ProgressOutput;
  readonly #description: string;
  readonly #now: () => number;
  readonly #start: number;
  #printedAt = Number.NEGATIVE_INFINITY;
  #unprinted: { done: number; total: number } | undefined;

  constructor(output: ProgressOutput, description: string, now: () => number = () => performance.now()) {
    this.#output = output;
    this.#description = description;
    this.#now = now;
    this.#start = now();
  }

  update(done: number, total: number): void {
    this.#unprinted = { done, total };
    if (this.#now() - this.#printedAt >= INTERVAL_MS) this.#print();
  }

  stop(): void {
    this.#print();
  }

  #print(): void {
    if (!this.#unprinted) return;
    const { done, total } = this.#unprinted;
    this.#unprinted = undefined;
    this.#printedAt = this.#now();
    const elapsed = Math.round(this.#printedAt - this.#start) / 1000;
    const line = { transferred: done, size: total, elapsed, description: this.#description };
    this.#output.write(`${JSON.stringify(line)}\n`);
  }
}
