/**
 * Progress as a bar on a terminal, drawn by cli-progress, removed when the work is done.
 *
 * The cursor stays visible and line wrapping on, so that ending the process at any moment leaves a
 * usable terminal.
 */
import cliProgress from 'cli-progress';
import { formatSize } from '../../base/bytes.js';
import type { Work } from '../../operations/host.js';
import { durationText } from '../render/text.js';
import { Estimate } from './estimate.js';
import type { Progress } from './progress.js';

const FRAME_MS = 100;
/** Room for everything beside the bar and the description. */
const TEXT_WIDTH = 64;

export class BarProgress implements Progress {
  readonly estimates = true;
  readonly #bar: cliProgress.SingleBar;
  readonly #description: string;
  readonly #estimate = new Estimate(performance.now());
  #started = false;
  #drawnAt = Number.NEGATIVE_INFINITY;

  constructor(stream: NodeJS.WriteStream, description: string) {
    this.#description = description;
    const room = (stream.columns ?? 80) - TEXT_WIDTH - description.length;
    this.#bar = new cliProgress.SingleBar(
      {
        stream,
        format: '{description} {bar} {percentage}% {moved} {rate} {left}',
        barsize: Math.max(10, Math.min(40, room)),
        fps: 1000 / FRAME_MS,
        linewrap: true,
        clearOnComplete: true,
        noTTYOutput: true,
        etaBuffer: 2,
      },
      cliProgress.Presets.shades_classic,
    );
  }

  update(done: number, total: number, work?: Work): void {
    const now = performance.now();
    if (now - this.#drawnAt < FRAME_MS && done < total) return;
    this.#drawnAt = now;
    this.#estimate.note(done, total, now, work);
    if (this.#started) this.#bar.update(done, this.#payload(done, total));
    else this.#bar.start(total, done, this.#payload(done, total));
    this.#started = true;
  }

  stop(): void {
    if (this.#started) this.#bar.stop();
    this.#started = false;
  }

  #payload(done: number, total: number): Record<string, string> {
    const { rate, remainingMs: left } = this.#estimate;
    return {
      description: this.#description,
      moved: `${formatSize(done)} of ${formatSize(total)}`,
      rate: rate ? `${formatSize(Math.round(rate))}/s` : '',
      left: left === undefined || done >= total ? '' : `${durationText(left)} left`,
    };
  }
}
