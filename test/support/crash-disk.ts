/**
 * A file system in memory that records everything written to it, and shows what a crash could have left.
 *
 * What a machine that stops at an instant may leave: every operation before the last flush of its file is
 * there; of those after it any subset may be (storage reorders), and the last one may be torn at a sector.
 * A process that is killed leaves exactly a prefix of all operations. `states` yields both kinds.
 *
 * Files are plain byte arrays: keep images small (a few MiB). Names are flat; folders do not exist.
 */
import { VhdkitError } from '../../src/base/errors.js';
import type { FileSystem, HeldLock, PendingFile, ResumableFile } from '../../src/io/file-system.js';
import { MemoryFile } from '../../src/io/memory-file.js';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';

type Operation =
  | { kind: 'write'; name: string; offset: number; bytes: Uint8Array }
  | { kind: 'zero'; name: string; offset: number; length: number }
  | { kind: 'truncate'; name: string; size: number }
  | { kind: 'flush'; name: string }
  | { kind: 'appear'; name: string; bytes: Uint8Array }
  | { kind: 'remove'; name: string };

/** Contents of all files at an instant, by name. Many states have the same arrays: they are only read. */
export type CrashState = Map<string, Uint8Array>;

const SECTOR = 512;

/** Arrays that more than one state has: who changes one takes a copy first. */
const shared = new WeakSet<Uint8Array>();

/** The bytes to change, `size` of them at least. */
function changeable(bytes: Uint8Array, size: number): Uint8Array {
  if (size <= bytes.length) return shared.has(bytes) ? new Uint8Array(bytes) : bytes;
  const out = new Uint8Array(size);
  out.set(bytes);
  return out;
}

function apply(state: CrashState, operation: Operation): void {
  const { name } = operation;
  const old = state.get(name) ?? new Uint8Array(0);
  switch (operation.kind) {
    case 'write': {
      const bytes = changeable(old, operation.offset + operation.bytes.length);
      bytes.set(operation.bytes, operation.offset);
      state.set(name, bytes);
      return;
    }
    case 'zero': {
      const bytes = changeable(old, operation.offset + operation.length);
      bytes.fill(0, operation.offset, operation.offset + operation.length);
      state.set(name, bytes);
      return;
    }
    case 'truncate':
      state.set(
        name,
        operation.size <= old.length
          ? new Uint8Array(old.subarray(0, operation.size))
          : changeable(old, operation.size),
      );
      return;
    case 'appear':
      shared.add(operation.bytes);
      state.set(name, operation.bytes);
      return;
    case 'remove':
      state.delete(name);
      return;
    case 'flush':
  }
}

/** As good as a copy as long as only `apply` changes what is in either. */
function copyOf(state: CrashState): CrashState {
  for (const bytes of state.values()) shared.add(bytes);
  return new Map(state);
}

/** A seeded generator of numbers in [0, 1): what a failing state was can be found again. */
function numbers(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}

export interface StateOptions {
  /** Reordered states per instant between flushes; default 2. */
  reorderings?: number;
  seed?: number;
  /** Only every n-th instant; default 1. */
  every?: number;
}

export interface Instant {
  state: CrashState;
  /** `after 12 of 40 operations`, `reordered before operation 12`, for messages. */
  label: string;
}

export class CrashDisk {
  readonly #start: CrashState = new Map();
  readonly #operations: Operation[] = [];
  readonly #live: CrashState = new Map();
  readonly #inodes = new Map<string, bigint>();
  #recording = false;
  #fullAfter = Number.POSITIVE_INFINITY;

  constructor(files: Iterable<readonly [string, Uint8Array]> = []) {
    for (const [name, bytes] of files)
      this.#live.set(name, shared.has(bytes) ? bytes : new Uint8Array(bytes));
  }

  /** From here on operations count; what is there now is where every crash state starts. */
  start(): void {
    this.#start.clear();
    for (const [name, bytes] of copyOf(this.#live)) this.#start.set(name, bytes);
    this.#operations.length = 0;
    this.#recording = true;
  }

  stop(): void {
    this.#recording = false;
  }

  /** Operations recorded so far. */
  get count(): number {
    return this.#operations.length;
  }

  /** The files as they are now. */
  files(): CrashState {
    return copyOf(this.#live);
  }

  /** From now on, writes fail with NO_SPACE after `count` more operations. Infinity: no more faults. */
  fullAfter(count: number): void {
    this.#fullAfter = count;
  }

  #record(operation: Operation): void {
    if (operation.kind === 'write' || operation.kind === 'zero' || operation.kind === 'appear') {
      this.#fullAfter -= 1;
      if (this.#fullAfter < 0) {
        throw new VhdkitError('NO_SPACE', `Cannot write ${operation.name}: no space left on device`, {
          context: { path: operation.name },
        });
      }
    }
    apply(this.#live, operation);
    if (this.#recording) this.#operations.push(operation);
  }

  #opened(name: string, writable: boolean): RandomAccessFile {
    if (!this.#live.has(name)) {
      throw new VhdkitError('NOT_FOUND', `${name} is not there`, {
        operation: 'open',
        context: { path: name },
      });
    }
    return new SharedFile(name, this.#live, (operation) => this.#record(operation), writable);
  }

  #inode(name: string): bigint {
    const inode = this.#inodes.get(name) ?? BigInt(this.#inodes.size + 1);
    this.#inodes.set(name, inode);
    return inode;
  }

  /** What operations are given. Pending files appear with their whole content at once. */
  fileSystem(): FileSystem {
    const locked = new Set<string>();
    const pending = async (path: string): Promise<ResumableFile> => {
      const file = new MemoryFile(new Uint8Array(0), `${path}.partial`);
      const finish: PendingFile = {
        file,
        publish: async () => this.#record({ kind: 'appear', name: path, bytes: file.bytes() }),
        discard: async () => undefined,
      };
      return {
        ...finish,
        journal: undefined,
        restart: () => file.truncate(0),
        record: async () => undefined,
        keep: async () => undefined,
      };
    };
    return {
      open: async (path, options) => this.#opened(path, options?.writable ?? false),
      kind: async (path) => (this.#live.has(path) ? 'file' : 'absent'),
      identity: async (path) => (this.#live.has(path) ? { device: 1n, inode: this.#inode(path) } : undefined),
      list: async () => [...this.#live.keys()].map((name) => name.slice(name.lastIndexOf('/') + 1)),
      createPending: pending,
      openResumable: pending,
      lock: async (path): Promise<HeldLock> => {
        if (locked.has(path)) {
          throw new VhdkitError('IN_USE', `${path} is in use by process 1`, { context: { path, pid: 1 } });
        }
        locked.add(path);
        return {
          async release() {
            locked.delete(path);
          },
        };
      },
      holder: async (path) => (locked.has(path) ? { pid: 1, host: 'here' } : undefined),
      remove: async (path) => this.#record({ kind: 'remove', name: path }),
    };
  }

  /**
   * What could be found after a crash at any instant.
   */
  *states(options: StateOptions = {}): Generator<Instant> {
    const { reorderings = 2, every = 1 } = options;
    const next = numbers(options.seed ?? 1);
    const state = copyOf(this.#start);
    /** What every file has for certain: its state at its last flush. */
    const durable = copyOf(this.#start);
    let loose: Operation[] = [];
    const total = this.#operations.length;
    yield { state: copyOf(state), label: `before all ${total} operations` };
    for (const [index, operation] of this.#operations.entries()) {
      apply(state, operation);
      if (operation.kind === 'flush' || operation.kind === 'appear' || operation.kind === 'remove') {
        for (const each of [...loose, operation]) if (each.name === operation.name) apply(durable, each);
        loose = loose.filter(({ name }) => name !== operation.name);
      } else loose.push(operation);
      if (index % every !== 0 && index !== total - 1) continue;
      yield { state: copyOf(state), label: `after ${index + 1} of ${total} operations` };
      if (loose.length < 1) continue;
      for (let round = 0; round < reorderings; round += 1) {
        yield {
          state: reordered(durable, loose, next),
          label: `reordered at operation ${index + 1} of ${total} (${round})`,
        };
      }
    }
  }
}

/** A file of a state. Its bytes are not copied unless something is written: what is written is in no state. */
export function openState(state: CrashState, name: string, writable = false): Promise<RandomAccessFile> {
  return new CrashDisk(state).fileSystem().open(name, { writable });
}

/** A random subset of what was not flushed, the kept ones in their order; one of them torn. */
function reordered(durable: CrashState, loose: readonly Operation[], next: () => number): CrashState {
  const state = copyOf(durable);
  for (const operation of loose) {
    const luck = next();
    if (luck < 0.4) continue;
    if (luck < 0.6 && operation.kind === 'write' && operation.bytes.length > SECTOR) {
      const sectors = Math.ceil(operation.bytes.length / SECTOR);
      const first = Math.floor(next() * sectors) * SECTOR;
      const last = first + (1 + Math.floor(next() * sectors)) * SECTOR;
      const bytes = operation.bytes.slice(first, last);
      apply(state, { ...operation, offset: operation.offset + first, bytes });
    } else apply(state, operation);
  }
  return state;
}

/** A handle on the shared bytes of a name: a writer's changes reach every reader. */
class SharedFile implements RandomAccessFile {
  readonly kind = 'memory';
  readonly fd = undefined;
  readonly path: string;
  readonly writable: boolean;
  readonly #live: CrashState;
  readonly #record: (operation: Operation) => void;

  constructor(name: string, live: CrashState, record: (operation: Operation) => void, writable: boolean) {
    this.path = name;
    this.writable = writable;
    this.#live = live;
    this.#record = record;
  }

  #bytes(): Uint8Array {
    return this.#live.get(this.path) ?? new Uint8Array(0);
  }

  #assertWritable(): void {
    if (this.writable) return;
    throw new VhdkitError('READ_ONLY', `${this.path} is open for reading only`, {
      context: { path: this.path },
    });
  }

  size(): number {
    return this.#bytes().length;
  }

  async read(buffer: Uint8Array, offset: number): Promise<number> {
    const part = this.#bytes().subarray(offset, offset + buffer.length);
    buffer.set(part);
    return part.length;
  }

  async write(buffer: Uint8Array, offset: number): Promise<void> {
    this.#assertWritable();
    this.#record({ kind: 'write', name: this.path, offset, bytes: new Uint8Array(buffer) });
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#assertWritable();
    this.#record({ kind: 'zero', name: this.path, offset, length });
  }

  async punch(offset: number, length: number): Promise<boolean> {
    const end = Math.min(offset + length, this.size());
    if (end > offset) await this.zero(offset, end - offset);
    return true;
  }

  async truncate(size: number): Promise<void> {
    this.#assertWritable();
    this.#record({ kind: 'truncate', name: this.path, size });
  }

  async flush(): Promise<void> {
    this.#record({ kind: 'flush', name: this.path });
  }

  nextData(offset: number, end: number): { offset: number; length: number } | undefined {
    const limit = Math.min(end, this.size());
    return offset < limit ? { offset, length: limit - offset } : undefined;
  }

  async allocatedBytes(): Promise<number> {
    return this.size();
  }

  fingerprint(): undefined {
    return undefined;
  }

  async close(): Promise<void> {}
}
