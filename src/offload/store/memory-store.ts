/**
 * A token store in memory: the default, its tokens live as long as the process.
 *
 * Records are copied in and out, as a store outside the process would do.
 */
import type { StoredToken, TokenRecord, TokenStore } from './token-store.js';

function copy(record: TokenRecord): TokenRecord {
  return record.fingerprint ? { ...record, fingerprint: { ...record.fingerprint } } : { ...record };
}

export class MemoryTokenStore implements TokenStore {
  readonly #entries = new Map<string, StoredToken>();
  #revision = 0;

  async get(id: string): Promise<StoredToken | undefined> {
    const entry = this.#entries.get(id);
    return entry && { record: copy(entry.record), revision: entry.revision };
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

  async *list(): AsyncGenerator<StoredToken> {
    for (const entry of [...this.#entries.values()]) {
      yield { record: copy(entry.record), revision: entry.revision };
    }
  }

  #set(record: TokenRecord): number {
    this.#revision += 1;
    this.#entries.set(record.id, { record: copy(record), revision: this.#revision });
    return this.#revision;
  }
}
