/**
 * How the life of a record ends: by revocation, because its time is over, with its owner, or to make room.
 *
 * Invariant: a record ends in the store first and what was kept for it is given back afterwards, so that a
 * crash leaves a record that says what is to be removed. A change that somebody else made meanwhile is never
 * undone. What several tokens share is charged to one of them, and to another once that one ends.
 */
import { isVhdkitError } from '../base/errors.js';
import type { PersistentData } from './persistent-data.js';
import { chargeOf } from './store/limits.js';
import { dueTime, type StoredToken, type TokenRecord, type TokenStore } from './store/token-store.js';
import { type EndReason, endedAs, type LimitName, stateOf } from './token-standing.js';

/** What becomes of a record that ended: the store goes on saying so for a while, or forgets it. */
export type Afterwards = 'remember' | 'forget';

export class TokenEndings {
  readonly #store: TokenStore;
  readonly #persistent: PersistentData | undefined;

  constructor(store: TokenStore, persistent: PersistentData | undefined) {
    this.#store = store;
    this.#persistent = persistent;
  }

  /** An order: ends it whoever uses it. Returns false when nothing was alive under the id. */
  async revoke(id: string, afterwards: Afterwards, reason: EndReason = 'revoked'): Promise<boolean> {
    for (;;) {
      const stored = await this.#store.get(id);
      if (!stored) return false;
      const { record } = stored;
      const ended = record.revoked ? record : endedAs(record, reason);
      const revision = await this.#store.update(ended, stored.revision);
      // Somebody was faster: what he did is looked at first.
      if (revision === undefined) continue;
      await this.#giveBack(record);
      if (afterwards === 'forget') await this.#store.delete(id, revision);
      return !record.revoked;
    }
  }

  /**
   * A hint: nobody begins to use it any more; it ends now if nobody uses it, else with the last use.
   * @param usedFor milliseconds for which it is known to be used
   */
  async hint(id: string, now: number, usedFor = 0): Promise<'revoked' | 'leaving' | 'ended'> {
    for (;;) {
      const stored = await this.#store.get(id);
      if (!stored || stored.record.revoked) return 'ended';
      const { record, revision } = stored;
      const usedUntil = Math.max(record.usedUntil ?? 0, usedFor > 0 ? now + usedFor : 0);
      if (usedUntil < now) {
        if (await this.end(stored, 'revoked')) return 'revoked';
        continue;
      }
      if ((await this.#store.update({ ...record, leaving: true, usedUntil }, revision)) !== undefined) {
        return 'leaving';
      }
    }
  }

  /**
   * Ends a record that is alive and still what was seen; the store remembers it. False when it is not.
   * @param limit for an evicted one
   */
  async end({ record, revision }: StoredToken, reason: EndReason, limit?: LimitName): Promise<boolean> {
    if ((await this.#store.update(endedAs(record, reason, limit), revision)) === undefined) return false;
    await this.#giveBack(record);
    return true;
  }

  /**
   * Ends what is due at a moment and not in use; returns how many that were.
   * @param rememberFor milliseconds after their end for which the store goes on saying what became of them
   * @param spare says of a record that it is to stay, because it is used here
   * @param ended hears of every record that was not spared
   */
  async reap(
    now: number,
    rememberFor: number,
    spare: (id: string) => boolean,
    ended: (id: string) => void,
  ): Promise<number> {
    let count = 0;
    // Due are those whose time ended before this moment.
    for await (const stored of this.#store.list({ dueBy: now - 1 })) {
      if (spare(stored.record.id) || (stored.record.usedUntil ?? 0) >= now) continue;
      if (await this.#sweep(stored, now, rememberFor)) count += 1;
      ended(stored.record.id);
    }
    return count;
  }

  /** Ends the life of a record if it still is what was seen. False when it was not, or had ended before. */
  async #sweep({ record, revision }: StoredToken, now: number, rememberFor: number): Promise<boolean> {
    const remember = now <= dueTime(record) + rememberFor;
    if (!remember && record.keptPath === undefined) return this.#store.delete(record.id, revision);
    let current: number | undefined = revision;
    if (!record.revoked) {
      const state = stateOf(record, now);
      const reason = state === 'valid' || state === 'leaving' ? 'expired' : state;
      current = await this.#store.update(endedAs(record, reason), revision);
    }
    if (current === undefined) return false;
    const given = await this.#giveBackIfAllowed(record);
    return remember || !given ? !record.revoked : this.#store.delete(record.id, current);
  }

  /**
   * False when what is kept can't be removed here: then its record stays for somebody who can, and nobody is kept
   * from sweeping the rest.
   */
  async #giveBackIfAllowed(record: TokenRecord): Promise<boolean> {
    try {
      await this.#persistent?.release(record);
    } catch (error) {
      if (isVhdkitError(error)) return false;
      throw error;
    }
    await this.#passCharge(record);
    return true;
  }

  async #giveBack(record: TokenRecord): Promise<void> {
    await this.#persistent?.release(record);
    await this.#passCharge(record);
  }

  async #passCharge(record: TokenRecord): Promise<void> {
    const { keptGroup } = record;
    if (keptGroup === undefined || chargeOf(record) === 0) return;
    for await (const other of this.group(keptGroup))
      if (await this.#charge(other, record.keptBytes ?? 0)) return;
  }

  /** The tokens alive that share what is kept. */
  async *group(keptGroup: string): AsyncGenerator<StoredToken> {
    for await (const stored of this.#store.list())
      if (stored.record.keptGroup === keptGroup && !stored.record.revoked) yield stored;
  }

  /** What is kept stays for this one. The limits don't stop that: it was counted a moment ago. */
  async #charge({ record, revision }: StoredToken, keptBytes: number): Promise<boolean> {
    try {
      return (await this.#store.update({ ...record, keptBytes }, revision)) !== undefined;
    } catch {
      // Somebody took the place meanwhile: it is kept without being counted.
      return true;
    }
  }
}
