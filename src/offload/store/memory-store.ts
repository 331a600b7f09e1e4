/**
 * A token store in memory: the default, its tokens live as long as the process.
 *
 * Records are copied in and out, as a store outside the process would do.
 */
import { type RandomSource, systemRandom } from '../../base/random.js';
import { assertRoom, inEvictionOrder, NO_USAGE, usageAfter } from './limits.js';
import {
  type EvictionOrder,
  isWanted,
  type StoredToken,
  type StoreLimits,
  type StoreUsage,
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
  #limits: StoreLimits = {};
  #usage = NO_USAGE;

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
    const entry = this.#entries.get(id);
    if (!entry || (revision !== undefined && entry.revision !== revision)) return false;
    this.#usage = usageAfter(this.#usage, entry.record, undefined);
    return this.#entries.delete(id);
  }

  async *list(options: WalkOptions = {}): AsyncGenerator<StoredToken> {
    for (const entry of [...this.#entries.values()]) {
      if (isWanted(entry.record, options)) yield structuredClone(entry);
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

  async limits(): Promise<StoreLimits> {
    return { ...this.#limits };
  }

  async setLimits(limits: StoreLimits): Promise<void> {
    this.#limits = { ...limits };
  }

  async usage(): Promise<StoreUsage> {
    return { ...this.#usage };
  }

  evictionOrder(order: EvictionOrder, now: number): AsyncIterable<StoredToken> {
    return inEvictionOrder(() => this.list(), order, now);
  }

  async close(): Promise<void> {
    this.#entries.clear();
    this.#usage = NO_USAGE;
  }

  #set(record: TokenRecord): number {
    const next = usageAfter(this.#usage, this.#entries.get(record.id)?.record, record);
    assertRoom(this.#limits, this.#usage, next, 'in memory');
    this.#usage = next;
    this.#revision += 1;
    this.#entries.set(record.id, { record: structuredClone(record), revision: this.#revision });
    return this.#revision;
  }
}
