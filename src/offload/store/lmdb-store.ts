/**
 * A token store in a folder, by LMDB: several processes of one host at once.
 *
 * Invariants: every change is one synchronous transaction that looks and writes, so of two that build on the
 * same revision one wins, in whichever process; nothing asynchronous is started inside one. A record's revision is
 * the number of the transaction that wrote it. Folder 0700, files 0600.
 *
 * Opening, changing and closing take turns (io/turns.ts), because the locks of lmdb-js don't keep them apart. Who
 * opens sets "the last transaction" in the lock file to what he read a moment before, so a change that was
 * committed in between is undone, and pages are used twice (LMDB's ITS#9496); and who closes last destroys the
 * mutexes, even if somebody is opening. Reading takes no turn.
 *
 * Durable against killed processes at every instant. Not every change is flushed, which is what makes it
 * fast: if the system itself stops while the store is in use, it begins anew (io/unsynced-mark.ts), tokens
 * of before are refused, and nothing of what may be half on the disk is looked at. Where starts of the system
 * can't be told apart, every change is flushed instead.
 *
 * For local file systems only, as LMDB is.
 */
import type { Database, PutOptions, RootDatabase } from 'lmdb';
import { isVhdkitError } from '../../base/errors.js';
import { type RandomSource, systemRandom } from '../../base/random.js';
import { LmdbStorage } from '../../io/lmdb-storage.js';
import { flushFile, tryWriting } from '../../io/private-folder.js';
import { openTurns, type Turns } from '../../io/turns.js';
import { abandonedMarks, bootId, makeMark, removeMark } from '../../io/unsynced-mark.js';
import { addUsage, inEvictionOrder, NO_USAGE, usageOf } from './limits.js';
import { translate } from './lmdb-errors.js';
import { LmdbFiles } from './lmdb-files.js';
import { DATA, prepareFolder } from './lmdb-folder.js';
import { LmdbIndex } from './lmdb-index.js';
import { decodeRecord, encodeRecord } from './record-codec.js';
import { storeError } from './store-errors.js';
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

/** Who opens, changes or closes takes turns by this file. */
const TURNS = 'turns.lock';
const FORMAT = 'vhdkit token store';
const VERSION = 1;
const KEY_BYTES = 32;
const KEY_ID = /^[0-9a-z]{1,64}$/;
const REVISION_BYTES = 8;
const WALK_BATCH = 256;
const NEW_ONLY: PutOptions = { noOverwrite: true };
const MAX_REASONS = 64;
const MAP_BYTES = 1 << 30;
/** About 400 bytes each: less than the map holds. */
const MAX_RECORDS = 1_000_000;

export interface LmdbStoreOptions {
  random?: RandomSource;
  /** More records are refused as `full`. */
  maxRecords?: number;
  /** Stands for the present start of the system; for tests. */
  boot?: string | undefined;
  /** Loads the package; for tests. */
  load?: () => Promise<typeof import('lmdb')>;
}

/** What the index of the limits takes for a record, while the old one is there as well. */
const LIMITED_BYTES = 512;

/** What the store says of itself, under the key `store`. */
interface Header {
  format: string;
  version: number;
  key: string;
}

/**
 * Opens the store in a folder, which is made if it is not there.
 * @throws UNSUPPORTED (package missing), PERMISSION_DENIED, NO_SPACE, TOKEN_STORE_FAILED (`damaged`,
 *   `newer-version`, `not-a-store`)
 */
export async function openLmdbStore(folder: string, options: LmdbStoreOptions = {}): Promise<TokenStore> {
  const load = options.load ?? (() => import('lmdb'));
  const lmdb = await load().catch((error: unknown) => {
    throw storeError('package-missing', folder, 'the package lmdb is not installed: npm install lmdb', error);
  });
  const boot = 'boot' in options ? options.boot : bootId();
  await prepareFolder(folder, boot);
  let turns: Turns | undefined;
  let store: LmdbTokenStore | undefined;
  try {
    turns = openTurns(`${folder}/${TURNS}`);
    const setting = { folder, boot, turns, maxRecords: options.maxRecords ?? MAX_RECORDS };
    store = await turns.take(() => openInTurn(lmdb, setting));
    await store.begin(options.random ?? systemRandom);
    return store;
  } catch (error) {
    if (store) await store.close().catch(() => undefined);
    else turns?.close();
    throw translate(error, folder);
  }
}

type Root = RootDatabase<Buffer, string>;

function openInTurn(lmdb: typeof import('lmdb'), setting: Setting): LmdbTokenStore {
  const { folder, boot } = setting;
  const root = lmdb.open<Buffer, string>({
    path: folder,
    noSubdir: false,
    mapSize: MAP_BYTES,
    maxDbs: 8,
    encoding: 'binary',
    cache: false,
    overlappingSync: false,
    noSync: boot !== undefined,
  });
  try {
    return new LmdbTokenStore(root, setting);
  } catch (error) {
    void root.close().catch(() => undefined);
    throw error;
  }
}

interface Setting {
  folder: string;
  boot: string | undefined;
  turns: Turns;
  maxRecords: number;
}

class LmdbTokenStore implements TokenStore {
  readonly #folder: string;
  readonly #root: Root;
  readonly #tokens: Database<Buffer, string>;
  readonly #index: LmdbIndex;
  readonly #files: LmdbFiles;
  readonly #storage: LmdbStorage;
  readonly #boot: string | undefined;
  readonly #turns: Turns;
  readonly #maxRecords: number;
  #mark: Promise<string> | undefined;
  #isMarked = false;
  #key: Uint8Array = new Uint8Array(0);
  #closed = false;

  /** In a turn. */
  constructor(root: Root, { folder, boot, turns, maxRecords }: Setting) {
    this.#folder = folder;
    this.#root = root;
    this.#boot = boot;
    this.#turns = turns;
    this.#maxRecords = maxRecords;
    this.#tokens = root.openDB<Buffer, string>({ name: 'tokens', encoding: 'binary', cache: false });
    this.#index = new LmdbIndex(folder, root);
    this.#files = new LmdbFiles(root, this.#tokens);
    this.#storage = new LmdbStorage(`${folder}/${DATA}`, root);
  }

  /** Reads the store's header, or makes it: whoever is first decides the key. */
  async begin(random: RandomSource): Promise<void> {
    const header =
      this.#header() ??
      (await this.#change(() => {
        const found = this.#header();
        if (found) return found;
        const key = Buffer.from(random.bytes(KEY_BYTES)).toString('base64');
        const made: Header = { format: FORMAT, version: VERSION, key };
        this.#root.putSync('store', Buffer.from(JSON.stringify(made)));
        return made;
      }));
    this.#key = Uint8Array.from(Buffer.from(header.key, 'base64'));
    if (this.#key.length !== KEY_BYTES) throw storeError('damaged', this.#folder, 'its key is incomplete');
  }

  async key(): Promise<Uint8Array> {
    this.#assertOpen();
    return Uint8Array.from(this.#key);
  }

  async get(id: string): Promise<StoredToken | undefined> {
    if (!KEY_ID.test(id)) return undefined;
    const value = this.#read(() => this.#tokens.getBinary(id));
    return value && this.#decode(id, value);
  }

  async put(record: TokenRecord): Promise<number | undefined> {
    const bytes = encodeRecord(record, REVISION_BYTES);
    return this.#change(() => {
      const revision = this.#write(record.id, bytes, NEW_ONLY);
      if (revision === undefined) return undefined;
      // Every record took a transaction, so as long as there were fewer of those nobody need count.
      if (revision > this.#maxRecords && this.#entryCount() > this.#maxRecords)
        throw storeError(
          'full',
          this.#folder,
          `it holds ${this.#maxRecords} tokens, more than that it takes not`,
        );
      const limits = this.#index.limits();
      if (limits) this.#index.replace(limits, undefined, record);
      this.#files.add(record);
      return revision;
    });
  }

  async update(record: TokenRecord, revision: number): Promise<number | undefined> {
    const bytes = encodeRecord(record, REVISION_BYTES);
    return this.#change(() => {
      if (this.#revisionOf(record.id) !== revision) return undefined;
      this.#note(record.id, record);
      return this.#write(record.id, bytes);
    }, 0);
  }

  async delete(id: string, revision?: number): Promise<boolean> {
    if (!KEY_ID.test(id)) return false;
    return this.#change(() => {
      const current = this.#revisionOf(id);
      if (current === undefined || (revision !== undefined && current !== revision)) return false;
      this.#note(id, undefined);
      this.#tokens.removeSync(id);
      this.#files.removed(id);
      return true;
    }, 0);
  }

  async *list(options: WalkOptions = {}): AsyncGenerator<StoredToken> {
    const { dueBy, inode } = options;
    const look = <T>(work: () => T): T => this.#read(work);
    const due = dueBy !== undefined && this.#limited() ? this.#index.dueBy(dueBy, look) : undefined;
    const ids = inode === undefined ? due : this.#files.of(inode, look);
    for await (const entry of this.#all(ids ?? [])) if (isWanted(entry.record, options)) yield entry;
    if (ids) return;
    let after: string | undefined;
    for (;;) {
      const batch = this.#read(() => this.#batchAfter(after));
      for (const { key, value } of batch) {
        const entry = this.#decode(key, value);
        if (isWanted(entry.record, options)) yield entry;
      }
      after = batch.at(-1)?.key;
      if (batch.length < WALK_BATCH) return;
    }
  }

  async *evictionOrder(order: EvictionOrder, now: number): AsyncGenerator<StoredToken> {
    if (this.#limited()) yield* this.#all(this.#index.order(order, now, (work) => this.#read(work)));
    else yield* inEvictionOrder(() => this.list(), order, now);
  }

  async *#all(batches: Iterable<string[]>): AsyncGenerator<StoredToken> {
    for (const batch of batches)
      for (const id of batch) {
        const entry = await this.get(id);
        if (entry) yield entry;
      }
  }

  #limited(): boolean {
    return this.#read(() => this.#index.limits()) !== undefined;
  }

  async limits(): Promise<StoreLimits> {
    return this.#read(() => this.#index.limits() ?? {});
  }

  async setLimits(limits: StoreLimits): Promise<void> {
    const bytes = LIMITED_BYTES * (1 + (await this.count()));
    await this.#change(() => this.#index.rebuild(limits, this.#records()), bytes);
  }

  async usage(): Promise<StoreUsage> {
    if (this.#limited()) return this.#read(() => this.#index.usage());
    let used = NO_USAGE;
    for await (const { record } of this.list()) used = addUsage(used, usageOf(record));
    return used;
  }

  async count(): Promise<number> {
    return this.#read(() => this.#entryCount());
  }

  async countRefusal(reason: string): Promise<void> {
    await this.#change(() => {
      const counts = this.#refusals();
      if (!Object.hasOwn(counts, reason) && Object.keys(counts).length >= MAX_REASONS) return;
      this.#root.putSync(
        'refusals',
        Buffer.from(JSON.stringify({ ...counts, [reason]: (counts[reason] ?? 0) + 1 })),
      );
    });
  }

  async refusals(): Promise<Record<string, number>> {
    return this.#read(() => this.#refusals());
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.#turns.take(() => this.#root.close());
      if (!this.#mark) return;
      // What others left unflushed goes along: it is the same file.
      const abandoned = await abandonedMarks(this.#folder);
      await flushFile(`${this.#folder}/${DATA}`);
      for (const mark of [await this.#mark, ...abandoned]) await removeMark(mark);
    } catch (error) {
      throw translate(error, this.#folder);
    } finally {
      this.#turns.close();
    }
  }

  /** Inside a transaction: what the limits and their index are to know of a change. @throws TOKEN_LIMIT */
  #note(id: string, after: TokenRecord | undefined): void {
    const limits = this.#index.limits();
    if (limits === undefined) return;
    const value = this.#tokens.getBinary(id);
    this.#index.replace(limits, value && this.#decode(id, value).record, after);
  }

  *#records(): Generator<TokenRecord> {
    for (let after: string | undefined; ; ) {
      const batch = this.#batchAfter(after);
      for (const { key, value } of batch) yield this.#decode(key, value).record;
      after = batch.at(-1)?.key;
      if (batch.length < WALK_BATCH) return;
    }
  }

  #batchAfter(after: string | undefined): { key: string; value: Buffer }[] {
    const start = after === undefined ? {} : { start: after, exclusiveStart: true };
    // Copied: what LMDB hands out is overwritten by the next entry.
    const range = this.#tokens.getRange({ ...start, limit: WALK_BATCH });
    return Array.from(range, ({ key, value }) => ({ key, value: Buffer.from(value) }));
  }

  /** Not by `getStats`, which walks the list of free pages, too: that would be a twelfth of what binding takes. */
  #entryCount(): number {
    const tokens = this.#tokens as unknown as {
      ensureReadTxn(): void;
      db: { stat(): { entryCount: number } };
    };
    tokens.ensureReadTxn();
    return tokens.db.stat().entryCount;
  }

  #header(): Header | undefined {
    const header = this.#json('store');
    if (header === undefined) {
      if (this.#entryCount() > 0) throw storeError('damaged', this.#folder, 'it has tokens, but no key');
      return undefined;
    }
    const { format, version, key } = header as Partial<Header>;
    if (format !== FORMAT)
      throw storeError('not-a-store', this.#folder, 'another program keeps its data there');
    if (typeof version !== 'number' || typeof key !== 'string')
      throw storeError('damaged', this.#folder, 'its header is incomplete');
    if (version > VERSION)
      throw storeError(
        'newer-version',
        this.#folder,
        `it has version ${version}, this vhdkit knows ${VERSION}`,
      );
    return { format, version, key };
  }

  #refusals(): Record<string, number> {
    return (this.#json('refusals') ?? {}) as Record<string, number>;
  }

  /** A JSON object that lies beside the tokens. */
  #json(key: string): object | undefined {
    const value = this.#root.getBinary(key);
    if (!value) return undefined;
    let parsed: unknown;
    try {
      parsed = JSON.parse(value.toString());
    } catch {
      // Said below.
    }
    if (typeof parsed === 'object' && parsed !== null) return parsed;
    throw storeError('damaged', this.#folder, `its entry "${key}" can't be read`);
  }

  #revisionOf(id: string): number | undefined {
    const value = this.#tokens.getBinary(id);
    return value && this.#revision(id, value);
  }

  #revision(id: string, value: Buffer): number {
    if (value.length <= REVISION_BYTES)
      throw storeError('damaged', this.#folder, `the record of token ${id} is cut off`);
    return value.readUIntBE(2, 6);
  }

  #decode(id: string, value: Buffer): StoredToken {
    const revision = this.#revision(id, value);
    return { record: decodeRecord(id, value.subarray(REVISION_BYTES), this.#folder), revision };
  }

  /**
   * Inside a transaction: the record under a new revision, which is returned; undefined when the id is taken.
   * @param bytes with room for the revision in front
   */
  #write(id: string, bytes: Buffer, options: PutOptions = {}): number | undefined {
    // The transaction's number: each that changes anything has the next one, in whichever process.
    const revision = this.#root.getWriteTxnId();
    bytes.writeUIntBE(0, 0, REVISION_BYTES - 6);
    bytes.writeUIntBE(revision, REVISION_BYTES - 6, 6);
    // The types do not say so, but its documentation does.
    const isStored = this.#tokens.putSync(id, bytes, options) as unknown as boolean;
    return isStored ? revision : undefined;
  }

  /** Looks at what is committed now; an older view would let somebody who tries again see the same for ever. */
  #read<T>(look: () => T): T {
    this.#assertOpen();
    try {
      (this.#root as unknown as { resetReadTxn(): void }).resetReadTxn();
      return look();
    } catch (error) {
      throw translate(error, this.#folder);
    }
  }

  /** @param bytes of storage that it can't be without (io/lmdb-storage.ts) */
  async #change<T>(work: () => T, bytes?: number): Promise<T> {
    this.#assertOpen();
    try {
      if (this.#boot !== undefined && !this.#isMarked) {
        await this.#marked(this.#boot);
        this.#assertOpen();
      }
      const change = (): T => {
        this.#storage.prepare(bytes);
        return work();
      };
      return await this.#turns.take(() => this.#root.transactionSync(change));
    } catch (error) {
      const failure = translate(error, this.#folder);
      // LMDB calls it an I/O error when the system wrote a part of what did not fit.
      if (isVhdkitError(failure) && failure.code === 'IO_FAILED')
        await tryWriting(this.#folder).catch((reason: unknown) => {
          throw translate(reason, this.#folder);
        });
      throw failure;
    }
  }

  /** Before the first change; one that failed is tried again by the next. */
  async #marked(boot: string): Promise<void> {
    this.#mark ??= makeMark(this.#folder, boot);
    try {
      await this.#mark;
      this.#isMarked = true;
    } catch (error) {
      this.#mark = undefined;
      throw error;
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw storeError('closed', this.#folder, 'it was closed');
  }
}
