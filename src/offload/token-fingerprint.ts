/**
 * Whether what a token stands for still is what it was at binding.
 *
 * Limits: a change that restores size and both times, or that falls into the same tick of the file system's
 * clock as the binding, can't be noticed.
 */
import type { FileFingerprint } from '../io/random-access-file.js';
import { samePersistent } from './persistent-data.js';
import type { TokenRecord } from './store/token-store.js';
import type { Binding } from './token-binding.js';
import { sourceChanged } from './token-refusal.js';

/** A change-vulnerable token's file. The device is compared apart: see `sameDevice`. */
export function sameContent(a: FileFingerprint, b: FileFingerprint): boolean {
  return a.mtime === b.mtime && a.ctime === b.ctime && a.size === b.size && a.inode === b.inode;
}

/**
 * The number of a device means the same only within one start of one system: another host that has the same
 * storage, or the same host later, may number it otherwise. So elsewhere it is not compared. What remains
 * still tells: another file at the same path that has the same inode number, size and two times to the
 * nanosecond is, but for intent, a copy of the whole file system, with the same data in it.
 * @param system where this process is; undefined: not known, then the device counts
 */
export function sameDevice(record: TokenRecord, file: FileFingerprint, system: string | undefined): boolean {
  const elsewhere = record.system !== undefined && system !== undefined && record.system !== system;
  return elsewhere || record.fingerprint?.device === file.device;
}

/** @throws SOURCE_CHANGED (names the file) */
export function assertUnchanged({ record, resolved, origin }: Binding, system: string | undefined): void {
  const { fingerprint, mode } = record;
  if (!fingerprint) return;
  const now = resolved.file.fingerprint();
  const same = mode === 'persistent' ? samePersistent : sameContent;
  if (!now || !sameDevice(record, now, system) || !same(fingerprint, now))
    throw sourceChanged(record, origin);
}

/**
 * The same with a second look: of a change that was made through us beside the token's range (own-changes.ts) the
 * store knows what the file is like since.
 * @param look takes over what the store has of a binding; false when it has nothing
 */
export async function assertStillUnchanged(
  binding: Binding,
  system: string | undefined,
  look: (binding: Binding) => Promise<boolean>,
): Promise<void> {
  try {
    assertUnchanged(binding, system);
  } catch (error) {
    const { fingerprint, mode } = binding.record;
    if (mode !== 'change-vulnerable' || !fingerprint) throw error;
    const isThere = await look(binding).catch(() => false);
    const since = binding.record.fingerprint;
    if (!isThere || !since || sameContent(since, fingerprint)) throw error;
    assertUnchanged(binding, system);
  }
}
