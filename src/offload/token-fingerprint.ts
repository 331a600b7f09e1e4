/**
 * Whether what a token stands for still is what it was at binding.
 *
 * Limits: a change that restores size and both times, or that falls into the same tick of the file system's
 * clock as the binding, can't be noticed.
 */
import type { FileFingerprint } from '../io/random-access-file.js';
import { samePersistent } from './persistent-data.js';
import type { Binding } from './token-binding.js';
import { sourceChanged } from './token-refusal.js';

export function sameFingerprint(a: FileFingerprint, b: FileFingerprint): boolean {
  return (
    a.mtime === b.mtime &&
    a.ctime === b.ctime &&
    a.size === b.size &&
    a.inode === b.inode &&
    a.device === b.device
  );
}

/** @throws SOURCE_CHANGED (names the file) */
export function assertUnchanged({ record, resolved, origin }: Binding): void {
  const { fingerprint, mode } = record;
  if (!fingerprint) return;
  const now = resolved.file.fingerprint();
  const same = mode === 'persistent' ? samePersistent : sameFingerprint;
  if (!now || !same(fingerprint, now)) throw sourceChanged(record, origin);
}
