/**
 * The limits of an LMDB token store, and the index that makes them cheap: live records in the order in which
 * they make room, those that ended, and what is kept for whom.
 *
 * Invariants: the index is there exactly while limits are, and changes in the same transaction as the records;
 * so a store without limits pays one look for it, and one with limits never walks all its records to bind a token.
 *
 * Order of the live ones: `[leaving ? 0 : 1, priority, due, id]`. Those whose time is over begin every class of
 * the same first two, so they are found by leaping from class to class.
 */
import type { Database, Key, RootDatabase } from 'lmdb';
import { addUsage, assertRoom, chargeOf, isLive, NO_USAGE, toLimits, usageAfter } from './limits.js';
import {
  dueTime,
  type EvictionOrder,
  type StoreLimits,
  type StoreUsage,
  type TokenRecord,
} from './token-store.js';

const NOTHING = Buffer.alloc(0);
const BATCH = 256;
/** Behind every key that begins alike. */
const LAST = '\u{10ffff}';

type LiveKey = [stays: number, priority: number, due: number, id: string];

function liveKey(record: TokenRecord): LiveKey {
  return [record.leaving ? 0 : 1, record.priority ?? 0, dueTime(record), record.id];
}

export class LmdbIndex {
  readonly #folder: string;
  readonly #root: RootDatabase<Buffer, string>;
  readonly #live: Database<Buffer, Key>;
  readonly #ended: Database<Buffer, Key>;
  readonly #kept: Database<Buffer, Key>;

  constructor(folder: string, root: RootDatabase<Buffer, string>) {
    this.#folder = folder;
    this.#root = root;
    const open = (name: string): Database<Buffer, Key> =>
      root.openDB<Buffer, Key>({ name, encoding: 'binary', cache: false });
    this.#live = open('live');
    this.#ended = open('ended');
    this.#kept = open('kept');
  }

  /** What was agreed on; undefined when nothing was, then there is no index. */
  limits(): StoreLimits | undefined {
    const value = this.#root.getBinary('limits');
    if (!value) return undefined;
    return toLimits(JSON.parse(value.toString()) as object);
  }

  /** In a transaction: notes that a record takes another's place. @throws TOKEN_LIMIT, before anything is noted */
  replace(limits: StoreLimits, before: TokenRecord | undefined, after: TokenRecord | undefined): void {
    const change = usageAfter(NO_USAGE, before, after);
    if (change.tokens > 0 || change.keptBytes > 0) {
      // Only what the limits ask for: counting costs more than the rest.
      const used = {
        tokens: limits.tokens === undefined ? 0 : entryCount(this.#live),
        ended: 0,
        keptBytes: limits.keptBytes === undefined ? 0 : this.#keptBytes(),
      };
      assertRoom(limits, used, addUsage(used, change), this.#folder);
    }
    if (before) this.#remove(before);
    if (after) this.#add(after);
  }

  /** In a transaction: begins anew with other limits and all records there are. */
  rebuild(limits: StoreLimits, records: Iterable<TokenRecord>): void {
    for (const part of [this.#live, this.#ended, this.#kept]) part.clearSync();
    if (Object.keys(limits).length === 0) {
      this.#root.removeSync('limits');
      return;
    }
    this.#root.putSync('limits', Buffer.from(JSON.stringify(limits)));
    for (const record of records) this.#add(record);
  }

  usage(): StoreUsage {
    return { tokens: entryCount(this.#live), ended: entryCount(this.#ended), keptBytes: this.#keptBytes() };
  }

  #keptBytes(): number {
    let sum = 0;
    for (const { value } of this.#kept.getRange()) sum += Number(value.readBigUInt64BE());
    return sum;
  }

  /** Ids in the order in which they make room, a batch at a time; each batch is looked up anew. */
  *order(order: EvictionOrder, now: number, look: <T>(work: () => T) => T): Generator<string[]> {
    if (order === 'ended') {
      yield* this.#batches(this.#ended, {}, look, idOf);
      return;
    }
    const kept = (id: string): boolean => this.#kept.getBinary(id) !== undefined;
    yield* this.#over([now], look, (id) => order === 'tokens' || kept(id));
    const later = (key: Key): string | undefined => {
      const [, , due, id] = key as LiveKey;
      return due >= now && (order === 'tokens' || kept(id)) ? id : undefined;
    };
    yield* this.#batches(this.#live, {}, look, later);
  }

  /** Ids of all records, live or not, whose time is over at a moment. */
  *dueBy(moment: number, look: <T>(work: () => T) => T): Generator<string[]> {
    yield* this.#over([moment, LAST], look, () => true);
    yield* this.#batches(this.#ended, { end: [moment, LAST] }, look, idOf);
  }

  /** Ids of live records whose time, and what follows it in the key, comes before an end. */
  *#over(end: Key[], look: <T>(work: () => T) => T, wanted: (id: string) => boolean): Generator<string[]> {
    let start: Key[] = [];
    for (;;) {
      const [first] = look(() => [...this.#live.getKeys({ start, limit: 1 })]);
      if (first === undefined) return;
      const [stays, priority] = first as LiveKey;
      const range = { start: [stays, priority], end: [stays, priority, ...end] };
      yield* this.#batches(this.#live, range, look, (key) => (wanted(idOf(key)) ? idOf(key) : undefined));
      start = [stays, priority, LAST];
    }
  }

  *#batches(
    part: Database<Buffer, Key>,
    range: { start?: Key; end?: Key },
    look: <T>(work: () => T) => T,
    pick: (key: Key) => string | undefined,
  ): Generator<string[]> {
    let start = range.start;
    let exclusiveStart = false;
    // Mostly the first one will do.
    for (let limit = 2; ; limit = Math.min(2 * limit, BATCH)) {
      const from = start === undefined ? {} : { start, exclusiveStart };
      const end = range.end === undefined ? {} : { end: range.end };
      const keys = look(() => [...part.getKeys({ ...from, ...end, limit })]);
      yield look(() => keys.flatMap((key) => pick(key) ?? []));
      if (keys.length < limit) return;
      start = keys.at(-1);
      exclusiveStart = true;
    }
  }

  #add(record: TokenRecord): void {
    if (!isLive(record)) {
      this.#ended.putSync([dueTime(record), record.id], NOTHING);
      return;
    }
    this.#live.putSync(liveKey(record), NOTHING);
    const charge = chargeOf(record);
    if (charge === 0) return;
    const value = Buffer.alloc(8);
    value.writeBigUInt64BE(BigInt(charge));
    this.#kept.putSync(record.id, value);
  }

  #remove(record: TokenRecord): void {
    if (!isLive(record)) {
      this.#ended.removeSync([dueTime(record), record.id]);
      return;
    }
    this.#live.removeSync(liveKey(record));
    if (chargeOf(record) > 0) this.#kept.removeSync(record.id);
  }
}

function idOf(key: Key): string {
  const id = (key as Key[]).at(-1);
  return typeof id === 'string' ? id : '';
}

function entryCount(part: Database<Buffer, Key>): number {
  return (part.getStats() as { entryCount?: number }).entryCount ?? 0;
}
