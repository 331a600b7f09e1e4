/**
 * The limits of a NATS token store, and the count of what they limit: one entry of the bucket for both.
 *
 * Invariant: who takes more of what is limited reserves it here first, by compare-and-swap, and gives it back
 * when the change did not come about; what gets less is counted afterwards. So all hosts together stay within
 * the limits. A process that dies in between leaves too much counted, never too little; counting anew puts
 * that right (`count`, and every time limits are set), unless somebody changed something meanwhile.
 *
 * Without limits nothing is counted; a change then costs one look.
 */
import { addUsage, assertRoom, isLimited, NO_USAGE, toLimits, usageAfter, usageOf } from './limits.js';
import { storeError } from './store-errors.js';
import type { StoredToken, StoreLimits, StoreUsage, TokenRecord } from './token-store.js';

const MAX_ROUNDS = 200;

/** How the entry is reached. */
export interface UsageEntry {
  read(): Promise<{ seq: number; data: Uint8Array } | undefined>;
  /** Undefined when `expected` (0: not there) is not the current one. */
  write(data: Uint8Array, expected: number): Promise<number | undefined>;
  walk(): AsyncIterable<StoredToken>;
}

interface Content {
  limits: StoreLimits;
  used: StoreUsage;
  /** 0: there is no entry. */
  seq: number;
}

export class NatsUsage {
  readonly #entry: UsageEntry;
  readonly #location: string;

  constructor(entry: UsageEntry, location: string) {
    this.#entry = entry;
    this.#location = location;
  }

  async limits(): Promise<StoreLimits> {
    return (await this.#content()).limits;
  }

  /** Whether changes are counted at all. */
  async counts(): Promise<boolean> {
    return isLimited(await this.limits());
  }

  async setLimits(limits: StoreLimits): Promise<void> {
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const { seq } = await this.#content();
      if (await this.#write({ limits, used: await this.#walk(), seq })) return;
    }
    throw this.#busy();
  }

  /** What is in use, by looking at all records. */
  async count(): Promise<StoreUsage> {
    const content = await this.#content();
    const used = await this.#walk();
    // Whatever was changed during the walk is known to those who changed it: then the entry stays theirs.
    if (isLimited(content.limits)) await this.#write({ ...content, used });
    return used;
  }

  /**
   * Makes a change of a record, counted.
   * @param publish undefined: the change did not come about
   * @throws TOKEN_LIMIT, then nothing was changed, and what `publish` throws
   */
  async changing(
    before: TokenRecord | undefined,
    after: TokenRecord,
    publish: () => Promise<number | undefined>,
  ): Promise<number | undefined> {
    const [had, has] = [usageOf(before), usageOf(after)];
    const takes = has.tokens > had.tokens || has.keptBytes > had.keptBytes;
    if (takes) await this.#move(before, after);
    const revision = await publish();
    const differs = takes || has.tokens !== had.tokens || has.keptBytes !== had.keptBytes;
    if (takes && revision === undefined) await this.#move(after, before);
    if (!takes && differs && revision !== undefined) await this.#move(before, after);
    return revision;
  }

  /** After a record was removed; one that can't be read is found by counting. */
  async removed(decode: () => TokenRecord): Promise<void> {
    let record: TokenRecord | undefined;
    try {
      record = decode();
    } catch {
      return;
    }
    await this.#move(record, undefined);
  }

  async #move(before: TokenRecord | undefined, after: TokenRecord | undefined): Promise<void> {
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const content = await this.#content();
      const { limits, used } = content;
      if (!isLimited(limits)) return;
      const next = usageAfter(used, before, after);
      assertRoom(limits, used, next, this.#location);
      if (await this.#write({ ...content, used: next })) return;
    }
    throw this.#busy();
  }

  async #content(): Promise<Content> {
    const found = await this.#entry.read();
    if (!found) return { limits: {}, used: NO_USAGE, seq: 0 };
    const { limits, used } = this.#parse(found.data);
    return { limits: toLimits(limits), used, seq: found.seq };
  }

  #parse(data: Uint8Array): { limits: object; used: StoreUsage } {
    try {
      const { limits, used } = JSON.parse(Buffer.from(data).toString());
      const numbers = [used.tokens, used.ended, used.keptBytes];
      if (typeof limits === 'object' && limits !== null && numbers.every(Number.isSafeInteger))
        return { limits, used };
    } catch {
      // Said below.
    }
    throw storeError('damaged', this.#location, "its limits can't be read");
  }

  async #write({ limits, used, seq }: Content): Promise<boolean> {
    const data = Buffer.from(JSON.stringify({ limits, used }));
    return (await this.#entry.write(Uint8Array.from(data), seq)) !== undefined;
  }

  async #walk(): Promise<StoreUsage> {
    let used = NO_USAGE;
    for await (const { record } of this.#entry.walk()) used = addUsage(used, usageOf(record));
    return used;
  }

  #busy(): Error {
    return storeError('timeout', this.#location, 'its limits are changed faster than they can be counted');
  }
}
