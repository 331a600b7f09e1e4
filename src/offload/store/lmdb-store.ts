/**
 * A token store in a folder, by LMDB: several processes of one host at once.
 *
 * Invariants: every change is one synchronous transaction that looks and writes, so of two that build on the
 * same revision one wins, in whichever process; nothing asynchronous is started inside one. Revisions come
 * from one counter for all records. Folder 0700, files 0600.
 *
 * Durable against killed processes at every instant. Not every change is flushed, which is what makes it
 * fast: if the system itself stops while the store is in use, it begins anew (io/unsynced-mark.ts), tokens
 * of before are refused, and nothing of what may be half on the disk is looked at. Where starts of the system
 * can't be told apart, every change is flushed instead.
 *
 * For local file systems only, as LMDB is.
 */
import type { Database, RootDatabase } from 'lmdb';
import { isVhdkitError, systemCode } from '../../base/errors.js';
import { type RandomSource, systemRandom } from '../../base/random.js';
import type { HeldLock } from '../../io/file-system.js';
import { takeLock } from '../../io/lock-file.js';
import {
  flushFile,
  makePrivateFile,
  makePrivateFolder,
  readStart,
  tryWriting,
} from '../../io/private-folder.js';
import {
  abandonedMarks,
  bootId,
  discardTorn,
  folderState,
  makeMark,
  removeMark,
} from '../../io/unsynced-mark.js';
import { addUsage, inEvictionOrder, NO_USAGE, usageOf } from './limits.js';
import { LmdbFiles } from './lmdb-files.js';
import { LmdbIndex } from './lmdb-index.js';
import { assertWhole, MAX_PAGE_BYTES } from './lmdb-layout.js';
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

const DATA = 'data.mdb';
const LOCKS = 'lock.mdb';
const FORMAT = 'vhdkit token store';
const VERSION = 1;
const KEY_BYTES = 32;
const KEY_ID = /^[0-9a-z]{1,64}$/;
const REVISION_BYTES = 8;
const WALK_BATCH = 256;
const NO_VALUE = Buffer.alloc(0);
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
  let root: RootDatabase<Buffer, string> | undefined;
  try {
    root = lmdb.open<Buffer, string>({
      path: folder,
      noSubdir: false,
      mapSize: MAP_BYTES,
      maxDbs: 8,
      encoding: 'binary',
      cache: false,
      overlappingSync: false,
      noSync: boot !== undefined,
    });
    const store = new LmdbTokenStore(folder, root, boot, options.maxRecords ?? MAX_RECORDS);
    await store.begin(options.random ?? systemRandom);
    return store;
  } catch (error) {
    await root?.close().catch(() => undefined);
    throw translate(error, folder);
  }
}

/** Makes folder and files as private as they have to be, and looks whether what is there can be trusted. */
async function prepareFolder(folder: string, boot: string | undefined): Promise<void> {
  try {
    await makePrivateFolder(folder);
    const found = await readStart(`${folder}/${DATA}`, 2 * MAX_PAGE_BYTES);
    // With room for its pages an existing store can be used, and tokens revoked, on a full file system.
    await tryWriting(folder).catch((error: unknown) => {
      if (!(isVhdkitError(error) && error.code === 'NO_SPACE' && found && found.size > 0)) throw error;
    });
    if (boot && (await folderState(folder, boot)) === 'torn') await beginAnew(folder, boot);
    else if (found && found.size > 0) assertWhole(folder, DATA, found.start, found.size);
    await makePrivateFile(`${folder}/${DATA}`);
    await makePrivateFile(`${folder}/${LOCKS}`);
  } catch (error) {
    throw translate(error, folder);
  }
}

/** After the system stopped while the store was in use. One process does it, the others find it done. */
async function beginAnew(folder: string, boot: string): Promise<void> {
  const lock = await recoveryLock(folder);
  try {
    if ((await folderState(folder, boot)) === 'torn') await discardTorn(folder, [DATA, LOCKS]);
  } finally {
    await lock.release();
  }
}

/** Others that begin anew need a moment only. */
async function recoveryLock(folder: string): Promise<HeldLock> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await takeLock(`${folder}/recover.lock`, folder);
    } catch (error) {
      if (!(isVhdkitError(error) && error.code === 'IN_USE') || attempt === 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

class LmdbTokenStore implements TokenStore {
  readonly #folder: string;
  readonly #root: RootDatabase<Buffer, string>;
  readonly #tokens: Database<Buffer, string>;
  readonly #index: LmdbIndex;
  readonly #files: LmdbFiles;
  readonly #boot: string | undefined;
  readonly #maxRecords: number;
  #mark: Promise<string> | undefined;
  #key: Uint8Array = new Uint8Array(0);
  #closed = false;

  constructor(
    folder: string,
    root: RootDatabase<Buffer, string>,
    boot: string | undefined,
    maxRecords: number,
  ) {
    this.#folder = folder;
    this.#root = root;
    this.#boot = boot;
    this.#maxRecords = maxRecords;
    this.#tokens = root.openDB<Buffer, string>({ name: 'tokens', encoding: 'binary', cache: false });
    this.#index = new LmdbIndex(folder, root);
    this.#files = new LmdbFiles(root);
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
    const bytes = encodeRecord(record);
    return this.#change(() => {
      if (this.#tokens.getBinary(record.id)) return undefined;
      if (this.#entryCount() >= this.#maxRecords)
        throw storeError(
          'full',
          this.#folder,
          `it holds ${this.#maxRecords} tokens, more than that it takes not`,
        );
      this.#note(record.id, record);
      this.#files.add(record);
      return this.#write(record.id, bytes);
    });
  }

  async update(record: TokenRecord, revision: number): Promise<number | undefined> {
    const bytes = encodeRecord(record);
    return this.#change(() => {
      if (this.#revisionOf(record.id) !== revision) return undefined;
      this.#note(record.id, record);
      return this.#write(record.id, bytes);
    });
  }

  async delete(id: string, revision?: number): Promise<boolean> {
    if (!KEY_ID.test(id)) return false;
    return this.#change(() => {
      const current = this.#revisionOf(id);
      if (current === undefined || (revision !== undefined && current !== revision)) return false;
      this.#note(id, undefined);
      this.#files.remove(() => this.#decode(id, this.#tokens.getBinary(id) ?? NO_VALUE).record);
      this.#tokens.removeSync(id);
      return true;
    });
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
    await this.#change(() => this.#index.rebuild(limits, this.#records()));
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
      await this.#root.close();
      if (!this.#mark) return;
      // What others left unflushed goes along: it is the same file.
      const abandoned = await abandonedMarks(this.#folder);
      await flushFile(`${this.#folder}/${DATA}`);
      for (const mark of [await this.#mark, ...abandoned]) await removeMark(mark);
    } catch (error) {
      throw translate(error, this.#folder);
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

  #entryCount(): number {
    const { entryCount } = this.#tokens.getStats() as { entryCount?: number };
    return entryCount ?? 0;
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

  /** Inside a transaction: the record under a new revision, which is returned. */
  #write(id: string, bytes: Uint8Array): number {
    const last = this.#root.getBinary('revision');
    const revision = (last?.length === REVISION_BYTES ? last.readUIntBE(2, 6) : 0) + 1;
    const value = Buffer.alloc(REVISION_BYTES + bytes.length);
    value.writeUIntBE(revision, 2, 6);
    this.#root.putSync('revision', value.subarray(0, REVISION_BYTES));
    value.set(bytes, REVISION_BYTES);
    this.#tokens.putSync(id, value);
    return revision;
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

  async #change<T>(work: () => T): Promise<T> {
    this.#assertOpen();
    try {
      if (this.#boot !== undefined) {
        await this.#marked(this.#boot);
        this.#assertOpen();
      }
      return this.#root.transactionSync(work);
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
    } catch (error) {
      this.#mark = undefined;
      throw error;
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw storeError('closed', this.#folder, 'it was closed');
  }
}

/** System codes of LMDB's own errors, as Node does not know them. */
const LMDB_FAILURES: readonly [RegExp, Parameters<typeof storeError>[0], string][] = [
  [/MDB_MAP_FULL|No space left|ENOSPC|quota/i, 'full', 'there is no room for more'],
  [/Permission denied|Read-only file system/i, 'read-only', 'it may not be written to'],
  [/MDB_VERSION_MISMATCH/, 'newer-version', "its format is not this LMDB's"],
  [/MDB_(INVALID|CORRUPTED|PAGE_NOTFOUND|PANIC|BAD_)/, 'damaged', 'its data file is damaged'],
];

function translate(error: unknown, folder: string): unknown {
  if (isVhdkitError(error)) {
    if (error.context.reason !== undefined) return error;
    if (error.code === 'PERMISSION_DENIED')
      return storeError('read-only', folder, 'it may not be written to', error);
    if (error.code === 'NO_SPACE') return storeError('full', folder, 'there is no room for more', error);
    if (error.code === 'ALREADY_EXISTS' || error.code === 'NOT_FOUND')
      return storeError('not-a-store', folder, 'something in its path is no folder', error);
    return error;
  }
  if (error instanceof RangeError) return error;
  const text = error instanceof Error ? `${systemCode(error) ?? ''} ${error.message}` : String(error);
  for (const [pattern, reason, detail] of LMDB_FAILURES)
    if (pattern.test(text)) return storeError(reason, folder, detail, error);
  return storeError('failed', folder, text.trim(), error);
}
