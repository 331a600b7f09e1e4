/**
 * Changes that we make to a file ourselves: tokens for what they do not touch stay valid, the others are void.
 *
 * A change-vulnerable token is refused as soon as its file's size or times are not what they were. Of a change
 * that goes through here it is known which bytes it touched; so afterwards the tokens of all other ranges are
 * given the fingerprint that the file has then.
 *
 * Invariants: what is not known to be harmless leaves a token void. That is: a token keeps its life only if
 * its fingerprint is that of the file before our first change, if nobody else was seen to change the file
 * since, and if the file was flushed before its new fingerprint was taken. Until that is stored, and after a crash
 * for ever, the fingerprint differs, and the token is refused. Of two that change one record the store
 * decides.
 *
 * Limits: somebody else's change is seen unless it falls between the beginning and the end of one of ours.
 */
import type { PreparedWrite } from '../block/extent.js';
import type { FileFingerprint, RandomAccessFile } from '../io/random-access-file.js';
import { WatchedFile } from '../io/watched-file.js';
import { ChangedRanges } from './changed-ranges.js';
import type { StoredToken, TokenRecord, TokenStore } from './store/token-store.js';
import { sameContent } from './token-fingerprint.js';

/** How often a record is looked at anew because others changed it meanwhile. */
const ROUNDS = 10;
/** No file has this time: a token with it is refused, also where the file's clock did not tick in between. */
const NEVER = -1n;

export interface SettledTokens {
  /** Tokens that go on living. */
  kept: number;
  /** Tokens whose data was changed. */
  ended: number;
}

/** The changes that are made through a file, so that places within it can be told to them. */
const watched = new WeakMap<RandomAccessFile, OwnChanges>();

export class OwnChanges {
  /** Changes go through this; closing it settles with the store. */
  readonly file: RandomAccessFile;
  readonly #file: RandomAccessFile;
  readonly #ranges = new ChangedRanges();
  readonly #system: string | undefined;
  readonly #before: FileFingerprint | undefined;
  #expected: FileFingerprint | undefined;
  #underWay = 0;
  #changed = false;
  #foreign = false;

  /**
   * @param file open for writing, nothing changed yet, and closed to other writers that take locks
   * @param system where this process is (ProcessIdentity.system)
   * @param openStore where the tokens are; asked for only if something changed
   */
  constructor(
    file: RandomAccessFile,
    system: string | undefined,
    openStore: () => Promise<{ store: TokenStore; close(): Promise<void> } | undefined>,
  ) {
    this.#file = file;
    this.#system = system;
    this.#before = file.fingerprint();
    this.#expected = this.#before;
    const settle = async (): Promise<void> => {
      if (!this.#changed) return;
      const opened = await openStore();
      try {
        if (opened) await this.settle(opened.store);
      } finally {
        await opened?.close();
      }
    };
    // A token that dies too early is no reason for a write to fail.
    this.file = new WatchedFile(
      file,
      (offset, length) => this.begin(offset, length),
      () => settle().catch(() => undefined),
    );
    watched.set(this.file, this);
  }

  /** Before bytes change, by whatever means; call the answer when they have. */
  begin(offset: number, length: number): () => void {
    this.#lookForOthers();
    this.#changed = true;
    this.#ranges.add(offset, length);
    this.#underWay += 1;
    return () => {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#expected = this.#file.fingerprint();
    };
  }

  /** Between our changes the file is what the last one left. */
  #lookForOthers(): void {
    if (this.#underWay > 0 || this.#foreign) return;
    const now = this.#file.fingerprint();
    this.#foreign = !now || !this.#expected || !sameFile(now, this.#expected);
  }

  /** Makes what was changed durable, and tells the store which tokens live on. */
  async settle(store: TokenStore): Promise<SettledTokens> {
    const count = { kept: 0, ended: 0 };
    const before = this.#before;
    if (!before || !this.#changed) return count;
    this.#lookForOthers();
    await this.#file.flush();
    const after = this.#file.fingerprint();
    // What flushing changes is our doing.
    if (!after || after.inode !== before.inode) return count;
    for await (const entry of store.list({ inode: before.inode })) {
      const outcome = await this.#settleOne(store, entry, before, after);
      if (outcome) count[outcome] += 1;
    }
    return count;
  }

  async #settleOne(
    store: TokenStore,
    entry: StoredToken,
    before: FileFingerprint,
    after: FileFingerprint,
  ): Promise<keyof SettledTokens | undefined> {
    let current: StoredToken | undefined = entry;
    for (let round = 0; current && round < ROUNDS; round += 1) {
      const { record, revision }: StoredToken = current;
      if (!this.#isOfFile(record, before)) return undefined;
      const touched = this.#ranges.overlaps(record.offset, record.length);
      if (this.#foreign && !touched) return undefined;
      const { device } = record.fingerprint;
      const fingerprint = touched ? { ...record.fingerprint, ctime: NEVER } : { ...after, device };
      if ((await store.update({ ...record, fingerprint }, revision)) !== undefined)
        return touched ? 'ended' : 'kept';
      current = await store.get(record.id);
    }
    return undefined;
  }

  /** Is the record a live one of this file, and was the file still what it was at binding? */
  #isOfFile(
    record: TokenRecord,
    before: FileFingerprint,
  ): record is TokenRecord & { fingerprint: FileFingerprint } {
    const { mode, fingerprint, revoked, system } = record;
    if (mode !== 'change-vulnerable' || !fingerprint || revoked) return false;
    // The same rule by which the token would be judged: a device's number means something on one system only.
    const elsewhere = system !== undefined && this.#system !== undefined && system !== this.#system;
    return sameContent(fingerprint, before) && (elsewhere || fingerprint.device === before.device);
  }
}

function sameFile(a: FileFingerprint, b: FileFingerprint): boolean {
  return sameContent(a, b) && a.device === b.device;
}

/**
 * A prepared write whose places will be written to without the file's own methods: its bytes count as being
 * changed from now on until it is committed or aborted. Of files that nobody watches it stays as it is.
 */
export function watchPlaces(prepared: PreparedWrite): PreparedWrite {
  const ends = prepared.places.flatMap(({ file, fileOffset, length }) => {
    const changes = watched.get(file);
    return changes ? [changes.begin(fileOffset, length)] : [];
  });
  if (ends.length === 0) return prepared;
  const ending = async (act: () => Promise<void>): Promise<void> => {
    try {
      await act();
    } finally {
      for (const end of ends.splice(0)) end();
    }
  };
  return {
    places: prepared.places,
    commit: () => ending(() => prepared.commit()),
    abort: () => ending(() => prepared.abort()),
  };
}
