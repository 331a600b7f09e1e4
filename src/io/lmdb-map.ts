/**
 * Durable maps of numbers to numbers in one file, by LMDB: several processes of one host at once.
 *
 * Invariants: a change is one transaction, seen and durable whole or not at all, when `change` returns; of two that
 * build on the same state one comes after the other and sees it. Nothing asynchronous happens inside one. A
 * file that is too short for what it states is refused before LMDB maps it, which would end the process.
 * Opening, changing and closing take turns (turns.ts), by a lock of the file itself: lmdb-js lets a process that opens,
 * even for reading, undo what another one commits at that moment. Without such locks one process may change it.
 *
 * For local file systems only, as LMDB is. Loads the package lmdb when first used.
 */
import type { Database, RootDatabase } from 'lmdb';
import { type ErrorCode, fromSystemError, isVhdkitError, systemCode, VhdkitError } from '../base/errors.js';
import { LmdbStorage } from './lmdb-storage.js';
import { readStart } from './private-folder.js';
import { type LockTurns, lockTurns } from './turns.js';

/** Several maps share a file, each under a name. */
export interface MapView {
  get(map: string, key: number): number | undefined;
  /** Entries with keys above `after`, in order, at most `limit`. */
  entries(map: string, after: number, limit: number): [number, number][];
  text(key: string): string | undefined;
}

export interface MapChange extends MapView {
  put(map: string, key: number, value: number): void;
  remove(map: string, key: number): void;
  putText(key: string, value: string): void;
}

export interface LmdbMapOptions {
  maps: readonly string[];
  /** Bytes that the file may grow to; address space, not storage. */
  limit: number;
  readOnly?: boolean;
}

/** What the file says for certain before it is mapped. Layout: MDB_page, MDB_meta of lmdb's mdb.c. */
const META = { magic: 24, pageSize: 48, lastPage: 144, transaction: 152 } as const;
const MAGIC = 0xbeefc0de;
const MAX_PAGE_BYTES = 65_536;
/** Pages at the end that LMDB counts but may never have written. */
const UNWRITTEN_PAGES = 8;
const VALUE_BYTES = 8;

function damaged(path: string, message: string, cause?: unknown): VhdkitError {
  return new VhdkitError('IMAGE_CORRUPT', `${path}: ${message}`, {
    operation: 'read map',
    context: { path, defect: 'WRITE_ONCE_MAP_DAMAGED' },
    cause,
  });
}

async function assertWhole(path: string): Promise<void> {
  const found = await readStart(path, 2 * MAX_PAGE_BYTES);
  if (!found || found.size === 0) return;
  const { start, size } = found;
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  if (start.length < 256 || view.getUint32(META.magic, true) !== MAGIC)
    throw damaged(path, 'its beginning was overwritten, or it is no map');
  const page = view.getUint32(META.pageSize, true);
  if (page < 512 || page > MAX_PAGE_BYTES || (page & (page - 1)) !== 0 || start.length < page + 168)
    throw damaged(path, `it states pages of ${page} bytes`);
  const newer = view.getBigUint64(page + META.transaction, true) > view.getBigUint64(META.transaction, true);
  const last = Number(view.getBigUint64((newer ? page : 0) + META.lastPage, true));
  if ((last + 1 - UNWRITTEN_PAGES) * page > size)
    throw damaged(path, `it ends at ${size} bytes, but it has ${last + 1} pages of ${page}`);
}

const FAILURES: readonly [RegExp, ErrorCode][] = [
  [/MDB_MAP_FULL|No space left|ENOSPC|quota/i, 'NO_SPACE'],
  [/Permission denied|Read-only file system/i, 'PERMISSION_DENIED'],
  [/No such file/i, 'NOT_FOUND'],
];

function translate(error: unknown, path: string): unknown {
  if (isVhdkitError(error)) return error;
  const text = error instanceof Error ? `${systemCode(error) ?? ''} ${error.message}`.trim() : String(error);
  if (/MDB_(INVALID|CORRUPTED|PAGE_NOTFOUND|PANIC|BAD_|VERSION)/.test(text))
    return damaged(path, text, error);
  const code = FAILURES.find(([pattern]) => pattern.test(text))?.[1];
  if (!code) return fromSystemError(error, `use ${path}`, { path });
  return new VhdkitError(code, `Cannot use ${path}: ${text}`, { context: { path }, cause: error });
}

export class LmdbMap {
  readonly path: string;
  readonly #root: RootDatabase<Buffer, string>;
  readonly #maps = new Map<string, Database<Buffer, number>>();
  readonly #turns: LockTurns | undefined;
  readonly #storage: LmdbStorage;
  #closed = false;

  private constructor(
    path: string,
    root: RootDatabase<Buffer, string>,
    maps: readonly string[],
    turns: LockTurns | undefined,
  ) {
    this.path = path;
    this.#root = root;
    this.#turns = turns;
    this.#storage = new LmdbStorage(path, root);
    for (const name of maps)
      this.#maps.set(name, root.openDB<Buffer, number>({ name, encoding: 'binary', cache: false }));
  }

  /**
   * Opens the file, or makes it (beside it a second one for locks, `PATH-lock`).
   * @throws UNSUPPORTED (the package is missing), IMAGE_CORRUPT, NO_SPACE, PERMISSION_DENIED, IO_FAILED
   */
  static async open(path: string, { maps, limit, readOnly = false }: LmdbMapOptions): Promise<LmdbMap> {
    const lmdb = await import('lmdb').catch((cause: unknown) => {
      throw new VhdkitError('UNSUPPORTED', 'The package lmdb is not installed', {
        operation: 'open map',
        context: { path },
        cause,
        hint: 'npm install lmdb, or choose another kind of device.',
      });
    });
    await assertWhole(path);
    const turns = lockTurns(path, readOnly ? undefined : 0o664);
    const open = (): LmdbMap => {
      const root = lmdb.open<Buffer, string>({
        path,
        noSubdir: true,
        mapSize: limit,
        maxDbs: maps.length,
        encoding: 'binary',
        cache: false,
        // Durable when a transaction returns.
        overlappingSync: false,
        readOnly,
      });
      try {
        return new LmdbMap(path, root, maps, turns);
      } catch (error) {
        void root.close().catch(() => undefined);
        throw error;
      }
    };
    try {
      return turns ? turns.take(open) : open();
    } catch (error) {
      turns?.close();
      throw translate(error, path);
    }
  }

  /** Looks at what is committed now. @throws IO_FAILED, IMAGE_CORRUPT */
  read<T>(look: (view: MapView) => T): T {
    return this.#guarded(() => {
      (this.#root as unknown as { resetReadTxn(): void }).resetReadTxn();
      return look(this.#view());
    });
  }

  /** One transaction; blocks until it is durable. @throws NO_SPACE, PERMISSION_DENIED, IO_FAILED */
  change<T>(work: (view: MapChange) => T): T {
    const change = (): T =>
      this.#root.transactionSync(() => {
        this.#storage.prepare();
        return work(this.#change());
      });
    return this.#guarded(() => (this.#turns ? this.#turns.take(change) : change()));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const close = (): Promise<void> => this.#root.close();
    await (this.#turns ? this.#turns.take(close) : close()).finally(() => this.#turns?.close());
  }

  #guarded<T>(work: () => T): T {
    if (this.#closed)
      throw new VhdkitError('IO_FAILED', `${this.path} is closed`, { context: { path: this.path } });
    try {
      return work();
    } catch (error) {
      throw translate(error, this.path);
    }
  }

  #map(name: string): Database<Buffer, number> {
    const map = this.#maps.get(name);
    if (!map) throw damaged(this.path, `it has no part '${name}'`);
    return map;
  }

  #number(value: Buffer): number {
    const number = value.length === VALUE_BYTES ? Number(value.readBigUInt64LE(0)) : Number.NaN;
    if (!Number.isSafeInteger(number)) throw damaged(this.path, 'an entry is no number');
    return number;
  }

  #view(): MapView {
    return {
      get: (map, key) => {
        const value = this.#map(map).getBinary(key);
        return value && this.#number(value);
      },
      entries: (map, after, limit) => {
        const range = this.#map(map).getRange({ start: after, exclusiveStart: true, limit });
        return Array.from(range, ({ key, value }) => [key, this.#number(value)]);
      },
      text: (key) => this.#root.getBinary(key)?.toString(),
    };
  }

  #change(): MapChange {
    return {
      ...this.#view(),
      put: (map, key, value) => {
        const bytes = Buffer.alloc(VALUE_BYTES);
        bytes.writeBigUInt64LE(BigInt(value), 0);
        this.#map(map).putSync(key, bytes);
      },
      remove: (map, key) => {
        this.#map(map).removeSync(key);
      },
      putText: (key, value) => {
        this.#root.putSync(key, Buffer.from(value));
      },
    };
  }
}
