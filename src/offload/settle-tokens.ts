/**
 * Tells a store what a file is like since a change: tokens of what the change touched end, the others live on.
 *
 * Invariant: a token lives on only if it was alive with the fingerprint from before the change. One that was bound
 * amid the change, in the last tick of the file system's clock, has the present fingerprint, and nobody knows whether what
 * was changed was changed before: it ends, too. Of two that change one record the store decides, and whoever was slower
 * looks again.
 */
import type { FileFingerprint } from '../io/random-access-file.js';
import type { ChangedRanges } from './changed-ranges.js';
import type { StoredToken, TokenRecord, TokenStore } from './store/token-store.js';
import { sameContent, sameDevice } from './token-fingerprint.js';

/** How often a record is looked at anew because others changed it meanwhile. */
const ROUNDS = 10;
/** No file has this time: a token with it is refused, also where the file's clock did not tick in between. */
const NEVER = -1n;
/** Records between two pauses. */
const BATCH = 16;

/** What became of a file. */
export interface FileChange {
  before: FileFingerprint;
  after: FileFingerprint;
  /** What we changed. */
  ranges: ChangedRanges;
  /** Somebody else changed it as well, and it is not known where. */
  foreign: boolean;
}

export interface SettledTokens {
  /** Tokens that go on living. */
  kept: number;
  /** Tokens whose data was changed. */
  ended: number;
}

type LiveRecord = TokenRecord & { fingerprint: FileFingerprint };

/**
 * Is the record a live one of this file as it was then?
 * @param system where this process is (ProcessIdentity.system)
 */
export function standsFor(
  record: TokenRecord,
  file: FileFingerprint,
  system: string | undefined,
): record is LiveRecord {
  const { mode, fingerprint, revoked } = record;
  if (mode !== 'change-vulnerable' || !fingerprint || revoked) return false;
  return sameContent(fingerprint, file) && sameDevice(record, file, system);
}

/** Does any token stand for a part of the file as it is? */
export async function hasTokens(
  store: TokenStore,
  file: FileFingerprint,
  system: string | undefined,
): Promise<boolean> {
  for await (const { record } of store.list({ inode: file.inode }))
    if (standsFor(record, file, system)) return true;
  return false;
}

/** @param pause is awaited now and then, so that others get their turn */
export async function settleTokens(
  store: TokenStore,
  change: FileChange,
  system: string | undefined,
  pause: () => Promise<void> = async () => undefined,
): Promise<SettledTokens> {
  const count = { kept: 0, ended: 0 };
  let looked = 0;
  for await (const entry of store.list({ inode: change.before.inode })) {
    const outcome = await settleOne(store, entry, change, system);
    if (outcome) count[outcome] += 1;
    looked += 1;
    if (looked % BATCH === 0) await pause();
  }
  return count;
}

async function settleOne(
  store: TokenStore,
  entry: StoredToken,
  { before, after, ranges, foreign }: FileChange,
  system: string | undefined,
): Promise<keyof SettledTokens | undefined> {
  let current: StoredToken | undefined = entry;
  for (let round = 0; current && round < ROUNDS; round += 1) {
    const { record, revision }: StoredToken = current;
    const isOld = standsFor(record, before, system);
    if (!isOld && !standsFor(record, after, system)) return undefined;
    const touched = ranges.overlaps(record.offset, record.length);
    if (!touched && (foreign || !isOld)) return undefined;
    const { device } = record.fingerprint;
    const fingerprint = touched ? { ...record.fingerprint, ctime: NEVER } : { ...after, device };
    if ((await store.update({ ...record, fingerprint }, revision)) !== undefined)
      return touched ? 'ended' : 'kept';
    current = await store.get(record.id);
  }
  return undefined;
}
