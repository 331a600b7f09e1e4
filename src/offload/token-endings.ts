/**
 * How the life of a record ends: by revocation, or because its time is over.
 *
 * Invariant: a record ends in the store first and what was kept for it is given back afterwards, so that a
 * crash leaves a record that says what is to be removed. A change that somebody else made meanwhile is never
 * undone.
 */
import type { PersistentData } from './persistent-data.js';
import { dueTime, type TokenRecord, type TokenStore } from './store/token-store.js';
import { ENDED } from './token-standing.js';

/** What becomes of a record that ended: the store goes on saying so for a while, or forgets it. */
export type Afterwards = 'remember' | 'forget';

export class TokenEndings {
  readonly #store: TokenStore;
  readonly #persistent: PersistentData | undefined;

  constructor(store: TokenStore, persistent: PersistentData | undefined) {
    this.#store = store;
    this.#persistent = persistent;
  }

  /** Returns false when nothing was alive under the id. */
  async revoke(id: string, afterwards: Afterwards): Promise<boolean> {
    for (;;) {
      const stored = await this.#store.get(id);
      if (!stored) return false;
      const { record } = stored;
      const revision = await this.#store.update({ ...record, revoked: true }, stored.revision);
      // Somebody was faster: what he did is looked at first.
      if (revision === undefined) continue;
      await this.#persistent?.release(record);
      if (afterwards === 'forget') await this.#store.delete(id, revision);
      return !record.revoked;
    }
  }

  /**
   * Ends what is due at a moment; returns how many that were.
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
    for await (const { record, revision } of this.#store.list({ dueBy: now - 1 })) {
      if (spare(record.id)) continue;
      if (await this.#end(record, revision, now <= dueTime(record) + rememberFor)) count += 1;
      ended(record.id);
    }
    return count;
  }

  /** Ends the life of a record if it still is what was seen. False when it was not, or had ended before. */
  async #end(record: TokenRecord, revision: number, remember: boolean): Promise<boolean> {
    if (!remember && record.keptPath === undefined) return this.#store.delete(record.id, revision);
    let current: number | undefined = revision;
    if (!record.revoked) current = await this.#store.update({ ...record, ...ENDED }, revision);
    if (current === undefined) return false;
    await this.#persistent?.release(record);
    return remember ? !record.revoked : this.#store.delete(record.id, current);
  }
}
