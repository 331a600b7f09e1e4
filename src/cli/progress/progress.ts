/**
 * Progress of long work on stderr: picks the way to show it.
 *
 * Invariant: `update` may be called at any rate and costs next to nothing; what is shown is throttled.
 * Nothing is shown before the first update, and `stop` leaves the terminal as it was.
 */
import type { ProgressSink } from '../../operations/host.js';

export interface Progress extends ProgressSink {
  /** Ends the display. Safe to call more than once. */
  stop(): void;
}

export type ProgressKind = 'auto' | 'bar' | 'plain' | 'json' | 'none';

/** Where progress is written, and what tells the time; replaced in tests. */
export interface ProgressOutput {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

const NONE: Progress = { update() {}, stop() {} };

/** What `auto` means here. */
export function resolveKind(kind: ProgressKind, isTTY: boolean, term: string | undefined): ProgressKind {
  if (kind !== 'auto') return kind;
  return isTTY && term !== 'dumb' ? 'bar' : 'none';
}

/** Starts showing progress on stderr. */
export async function startProgress(kind: ProgressKind, description: string): Promise<Progress> {
  const { stderr } = process;
  switch (resolveKind(kind, stderr.isTTY, process.env.TERM)) {
    case 'bar':
      return new (await import('./bar.js')).BarProgress(stderr, description);
    case 'plain':
      return new (await import('./plain.js')).PlainProgress(stderr, description);
    case 'json':
      return new (await import('./json-lines.js')).JsonProgress(stderr, description);
    default:
      return NONE;
  }
}
