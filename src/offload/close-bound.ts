/**
 * Tokens that live only while their source is held open here.
 *
 * Invariant: all of them end when their file is closed. The store is told now and then that this process still
 * is there; who hears nothing for longer than the owner's time takes it for gone.
 */
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { TokenStore } from './store/token-store.js';
import type { TokenEndings } from './token-endings.js';
import { OWNER_TTL } from './token-maker.js';

export class CloseBound {
  readonly #store: TokenStore;
  readonly #endings: TokenEndings;
  readonly #held = new Map<RandomAccessFile, Set<string>>();
  #told = Number.NEGATIVE_INFINITY;

  constructor(store: TokenStore, endings: TokenEndings) {
    this.#store = store;
    this.#endings = endings;
  }

  add(file: RandomAccessFile, id: string, now: number): void {
    if (this.#held.size === 0) this.#told = now;
    const ids = this.#held.get(file);
    if (ids) ids.add(id);
    else this.#held.set(file, new Set([id]));
  }

  /** Gives a sign of life if it is time for one. */
  async renew(now: number): Promise<void> {
    if (this.#held.size === 0 || now - this.#told < OWNER_TTL / 3) return;
    this.#told = now;
    for (const ids of this.#held.values()) for (const id of ids) await this.#renewOne(id, now + OWNER_TTL);
  }

  async #renewOne(id: string, until: number): Promise<void> {
    // Lost against somebody else's change: looked at again. Ended: nothing to renew.
    for (let round = 0; round < 10; round += 1) {
      const stored = await this.#store.get(id);
      if (!stored?.record.owner || stored.record.revoked) return;
      const { record, revision } = stored;
      const owner = { ...stored.record.owner, until };
      if ((await this.#store.update({ ...record, owner }, revision)) !== undefined) return;
    }
  }

  /** Ends the tokens of a file, or of all; returns their ids. */
  async end(file?: RandomAccessFile): Promise<string[]> {
    const files = file ? [file] : [...this.#held.keys()];
    const ended: string[] = [];
    for (const one of files) {
      const ids = [...(this.#held.get(one) ?? [])];
      this.#held.delete(one);
      // The first of a group carries the charge for all: last.
      for (const id of ids.reverse())
        if (await this.#endings.revoke(id, 'remember', 'closed')) ended.push(id);
    }
    return ended;
  }
}
