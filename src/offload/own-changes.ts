/**
 * Changes that we make to a file ourselves: tokens for what they do not touch stay valid, the others are void.
 *
 * A change-vulnerable token is refused as soon as its file's size or times are not what they were. Of a change
 * that goes through here it is known which bytes it touched; so afterwards the tokens of all other ranges are
 * given the fingerprint that the file has then (settle-tokens.ts).
 *
 * Invariants: what is not known to be harmless leaves a token void. That is: a token keeps its life only if
 * its fingerprint is that of the file before our first change, and if nobody else was seen to change the file
 * since. Until that is stored, and after a crash for ever, the fingerprint differs, and the token is refused.
 *
 * When: at the end, and, of a file that stays open for long, whenever nobody has written for a moment. Its tokens do
 * not get a fingerprint that the next change may leave as it is, because the file's clock has not ticked: such a
 * token would be alive over changed bytes if we were killed then. Hence the waiting, and nothing is gained by not
 * waiting: what is being written to has another fingerprint at once.
 *
 * Limits: somebody else's change is seen unless it falls into one of ours: between its beginning and its end, or,
 * of a file that stays open for long, into a stretch of changes that follow each other closely.
 */
import type { Timer } from '../base/timer.js';
import type { FileFingerprint, RandomAccessFile } from '../io/random-access-file.js';
import { WatchedFile } from '../io/watched-file.js';
import { ChangedRanges } from './changed-ranges.js';
import { type FileChange, type SettledTokens, settleTokens } from './settle-tokens.js';
import type { TokenStore } from './store/token-store.js';
import { sameContent } from './token-fingerprint.js';

export type { SettledTokens } from './settle-tokens.js';

/** Milliseconds without a change that end a stretch: some ticks of any system's clock. */
const QUIET = 50;
/** The same for file systems whose times are as coarse as this (nanoseconds); some know only even seconds. */
const COARSE = { unit: 10_000_000n, quiet: 2_500 };
/** How many times as long as settling took the next one has to wait. */
const REST = 20;

export interface OpenedStore {
  store: TokenStore;
  close(): Promise<void>;
}

export interface OwnChangesOptions {
  /** Where this process is (ProcessIdentity.system). */
  system: string | undefined;
  /** Where the tokens are; asked for only if something changed. Undefined: there are none any more. */
  openStore: () => Promise<OpenedStore | undefined>;
  /** For a file that stays open for long. */
  timer?: Timer;
}

const NOTHING = (): void => undefined;

export class OwnChanges {
  /** Changes go through this; closing it settles with the store. */
  readonly file: RandomAccessFile;
  readonly #file: RandomAccessFile;
  readonly #options: OwnChangesOptions;
  /** Since the tokens were settled last. */
  #ranges = new ChangedRanges();
  #changed = false;
  #foreign = false;
  /** What the tokens stand for that are followed; undefined: there are none. */
  #before: FileFingerprint | undefined;
  /** What our last stretch of changes left. */
  #expected: FileFingerprint | undefined;
  /** While it is, nobody looks for others. */
  #inStretch = false;
  #underWay = 0;
  /** Something began or ended lately. */
  #busy = false;
  /** When the last stretch ended, and what settling cost: of a file that stays open for long. */
  #quietSince = 0;
  #restUntil = 0;
  #following: Promise<void> | undefined;
  readonly #stop = new AbortController();

  /** @param file open for writing, nothing changed yet, and closed to other writers that take locks */
  constructor(file: RandomAccessFile, options: OwnChangesOptions) {
    this.#file = file;
    this.#options = options;
    this.#before = this.#look();
    this.#expected = this.#before;
    this.file = new WatchedFile(
      file,
      (offset, length) => this.begin(offset, length),
      () => this.#close(),
    );
  }

  /** Before bytes change, by whatever means; the answer is called once, when they have. */
  begin(offset: number, length: number): () => void {
    if (!this.#before) return NOTHING;
    if (!this.#inStretch) this.#beginStretch();
    this.#ranges.add(offset, length);
    this.#underWay += 1;
    this.#busy = true;
    return this.#end;
  }

  readonly #end = (): void => {
    this.#underWay -= 1;
    this.#busy = true;
    if (this.#underWay === 0 && !this.#options.timer) this.#endStretch();
  };

  #beginStretch(): void {
    this.#lookForOthers();
    this.#inStretch = true;
    this.#changed = true;
    const { timer } = this.#options;
    if (timer) this.#following ??= this.#follow(timer);
  }

  #endStretch(): void {
    this.#inStretch = false;
    this.#expected = this.#look();
  }

  /** Whoever can't be looked at is not known. */
  #look(): FileFingerprint | undefined {
    try {
      return this.#file.fingerprint();
    } catch {
      return undefined;
    }
  }

  /** Between our changes the file is what the last one left. */
  #lookForOthers(): void {
    if (this.#inStretch || this.#foreign) return;
    const now = this.#look();
    this.#foreign = !now || !this.#expected || !sameFile(now, this.#expected);
  }

  /** Makes what was changed durable, and tells the store which tokens live on. Nothing is under way. */
  async settle(store: TokenStore): Promise<SettledTokens> {
    const none = { kept: 0, ended: 0 };
    if (!this.#changed) return none;
    this.#lookForOthers();
    // What flushing changes is our doing.
    await this.#file.flush();
    const change = this.#take();
    return change ? settleTokens(store, change, this.#options.system) : none;
  }

  /** All that changed up to now; what follows begins anew. */
  #take(): FileChange | undefined {
    const [before, after] = [this.#before, this.#look()];
    const change = before && after && { before, after, ranges: this.#ranges, foreign: this.#foreign };
    this.#before = after;
    this.#expected = after;
    this.#ranges = new ChangedRanges();
    this.#changed = false;
    this.#foreign = false;
    return change;
  }

  /** Settles as soon as nobody writes, until nothing is left to be settled. */
  async #follow(timer: Timer): Promise<void> {
    while (this.#changed) {
      this.#busy = false;
      await timer.sleep(QUIET, this.#stop.signal);
      if (this.#stop.signal.aborted) break;
      if (this.#busy || this.#underWay > 0) continue;
      if (this.#inStretch) {
        this.#endStretch();
        this.#quietSince = timer.now() - QUIET;
      }
      if (this.#mayBeSettled(timer.now())) await this.#settleNow(timer).catch(NOTHING);
    }
    this.#following = undefined;
  }

  #mayBeSettled(now: number): boolean {
    const { mtime = 0n, ctime = 0n } = this.#expected ?? {};
    const isCoarse = mtime % COARSE.unit === 0n || ctime % COARSE.unit === 0n;
    const quiet = isCoarse ? COARSE.quiet : QUIET;
    return now >= this.#restUntil && now - this.#quietSince >= quiet;
  }

  /** Nothing is flushed for it: what is not on the disk yet belongs to tokens that end. */
  async #settleNow(timer: Timer): Promise<void> {
    this.#lookForOthers();
    const change = this.#take();
    if (!change) return;
    const start = timer.now();
    const opened = await this.#options.openStore();
    try {
      const pause = (): Promise<void> => timer.sleep(0);
      const settled = opened && (await settleTokens(opened.store, change, this.#options.system, pause));
      // From now on changes cost nothing.
      if (!settled || settled.kept === 0) this.#before = undefined;
    } finally {
      await opened?.close();
      this.#restUntil = timer.now() + REST * (timer.now() - start);
    }
  }

  /** A token that dies too early is no reason for a write to fail. */
  async #close(): Promise<void> {
    this.#stop.abort();
    await this.#following;
    if (!this.#changed) return;
    try {
      const opened = await this.#options.openStore();
      try {
        if (opened) await this.settle(opened.store);
      } finally {
        await opened?.close();
      }
    } catch {
      // The tokens are void then.
    }
  }
}

function sameFile(a: FileFingerprint, b: FileFingerprint): boolean {
  return sameContent(a, b) && a.device === b.device;
}
