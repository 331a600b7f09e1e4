/**
 * A token store in memory: the default, its tokens live as long as the process.
 *
 * Records are copied in and out, as a store outside the process would do.
 */
import { type RandomSource, systemRandom } from '../../base/random.js';
import {
  dueTime,
  type StoredToken,
  type TokenRecord,
  type TokenStore,
  type WalkOptions,
} from './token-store.js';

const KEY_BYTES = 32;
const MAX_REASONS = 64;

export class MemoryTokenStore implements TokenStore {
  readonly #entries = new Map<string, StoredToken>();
  readonly #refusals = new Map<string, number>();
  readonly #key: Uint8Array;
  #revision = 0;

  constructor(random: RandomSource = systemRandom) {
    this.#key = random.bytes(KEY_BYTES);
  }

  async key(): Promise<Uint8Array> {
    return Uint8Array.from(this.#key);
  }

  async get(id: string): Promise<StoredToken | undefined> {
    const entry = this.#entries.get(id);
    return entry && structuredClone(entry);
  }

  async put(record: TokenRecord): Promise<number | undefined> {
    return this.#entries.has(record.id) ? undefined : this.#set(record);
  }

  async update(record: TokenRecord, revision: number): Promise<number | undefined> {
    return this.#entries.get(record.id)?.revision === revision ? this.#set(record) : undefined;
  }

  async delete(id: string, revision?: number): Promise<boolean> {
    if (revision !== undefined && this.#entries.get(id)?.revision !== revision) return false;
    return this.#entries.delete(id);
  }

  async *list({ dueBy = Number.POSITIVE_INFINITY }: WalkOptions = {}): AsyncGenerator<StoredToken> {
    for (const entry of [...this.#entries.values()]) {
      if (dueTime(entry.record) <= dueBy) yield structuredClone(entry);
    }
  }

  async count(): Promise<number> {
    return this.#entries.size;
  }

  async countRefusal(reason: string): Promise<void> {
    if (!this.#refusals.has(reason) && this.#refusals.size >= MAX_REASONS) return;
    this.#refusals.set(reason, (this.#refusals.get(reason) ?? 0) + 1);
  }

  async refusals(): Promise<Record<string, number>> {
    return Object.fromEntries(this.#refusals);
  }

  async close(): Promise<void> {
    this.#entries.clear();
  }

  #set(record: TokenRecord): number {
    this.#revision += 1;
    this.#entries.set(record.id, { record: structuredClone(record), revision: this.#revision });
    return this.#revision;
  }
}
