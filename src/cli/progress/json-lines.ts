/**
 * Progress for programs: one JSON object per line, `{transferred, size, elapsed, description, work, rate,
 * remaining}`. `transferred` and `size` are bytes of the virtual disk, `work` counts those of them that
 * must be read or copied (null where nobody knows), `rate` is bytes per second of such work, `elapsed` and
 * `remaining` are seconds; null while unknown. The last line tells the last state.
 */
import { LineProgress, type LineState } from './line-progress.js';
import type { ProgressOutput } from './progress.js';

const INTERVAL_MS = 200;

export class JsonProgress extends LineProgress {
  constructor(output: ProgressOutput, description: string, now?: () => number) {
    super(output, description, INTERVAL_MS, now);
  }

  protected override line({ done, total, work, elapsedMs, rate, remainingMs }: LineState): string {
    return JSON.stringify({
      transferred: done,
      size: total,
      elapsed: seconds(elapsedMs),
      description: this.description,
      work: work ? { transferred: work.done, size: work.total } : null,
      rate: rate === undefined ? null : Math.round(rate),
      remaining: remainingMs === undefined ? null : seconds(remainingMs),
    });
  }
}

function seconds(milliseconds: number): number {
  return Math.round(milliseconds) / 1000;
}
