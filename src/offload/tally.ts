/**
 * Counts bytes by how they got to the target, and reports progress.
 *
 * Invariant: only ever grows, so progress is monotonic.
 */
import type { ProviderId } from './offload-provider.js';
import type { BytesMoved } from './transfer-types.js';

const COLUMN: Record<ProviderId, keyof BytesMoved> = {
  reflink: 'shared',
  kernel: 'kernelCopied',
  buffered: 'buffered',
  zero: 'zeroed',
};

export class Tally {
  readonly moved: BytesMoved = { shared: 0, kernelCopied: 0, buffered: 0, zeroed: 0 };
  readonly #report: ((done: number) => void) | undefined;
  readonly #reportCost: ((bytes: number) => void) | undefined;
  #done = 0;

  constructor(report?: (done: number) => void, reportCost?: (bytes: number) => void) {
    this.#report = report;
    this.#reportCost = reportCost;
  }

  add(provider: ProviderId, bytes: number): void {
    if (bytes === 0) return;
    this.moved[COLUMN[provider]] += bytes;
    this.#done += bytes;
    if (provider === 'kernel' || provider === 'buffered') this.#reportCost?.(bytes);
    this.#report?.(this.#done);
  }

  /** Zeros that had to be read to be found; `payload` bytes of them were stored. */
  addScannedZeros(bytes: number, payload: number): void {
    if (payload > 0) this.#reportCost?.(payload);
    this.add('zero', bytes);
  }
}
