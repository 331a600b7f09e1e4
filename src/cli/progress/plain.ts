/**
 * Progress as plain lines, for logs: one every two seconds and one at the end.
 */
import { formatSize } from '../../base/bytes.js';
import { durationText } from '../render/text.js';
import { LineProgress, type LineState } from './line-progress.js';
import type { ProgressOutput } from './progress.js';

const INTERVAL_MS = 2000;

export class PlainProgress extends LineProgress {
  constructor(output: ProgressOutput, description: string, now?: () => number) {
    super(output, description, INTERVAL_MS, now);
  }

  protected override line({ done, total, rate, remainingMs }: LineState): string {
    const percent = total > 0 ? Math.floor((done / total) * 1000) / 10 : 100;
    const parts = [
      `${this.description}: ${percent.toFixed(1)} %`,
      `${formatSize(done)} of ${formatSize(total)}`,
    ];
    if (rate) parts.push(`${formatSize(Math.round(rate))}/s`);
    if (remainingMs !== undefined && done < total) parts.push(`${durationText(remainingMs)} left`);
    return parts.join(', ');
  }
}
