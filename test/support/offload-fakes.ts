/**
 * Stand-ins for offload tests: a target that checks how it is used, and providers that do as told.
 */
import { expect } from 'vitest';
import type { Place, PreparedWrite } from '../../src/block/extent.js';
import { MemoryFile } from '../../src/io/memory-file.js';
import type { OffloadProvider, OffloadWriteRequest, ProviderId } from '../../src/offload/offload-provider.js';
import { rangeProvider, unsupported } from '../../src/offload/provider-base.js';
import type { TokenManager } from '../../src/offload/token-manager.js';
import type { TransferTarget } from '../../src/offload/transfer-types.js';

/** Its reads end in another order than they began. */
export class SlowFile extends MemoryFile {
  override async read(buffer: Uint8Array, offset: number): Promise<number> {
    for (let turns = Math.floor(offset / 4096) % 5; turns > 0; turns -= 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    return super.read(buffer, offset);
  }
}

export interface TargetOptions {
  blockSize?: number;
  unwrittenIsZero?: boolean;
  size: number;
  /** Start of the payload in the file: shifts places against disk offsets. */
  shift?: number;
  failCommit?: (offset: number) => boolean;
}

/** A target that allocates blocks (or is flat), and fails the test when the contract is broken. */
export class CheckingTarget implements TransferTarget {
  readonly file = new MemoryFile(new Uint8Array(0), 'target');
  readonly unwrittenIsZero: boolean;
  readonly blockSize: number | undefined;
  /** Ranges in the order in which they were prepared. */
  readonly prepared: { offset: number; length: number }[] = [];
  committed = 0;
  aborted = 0;
  readonly #options: TargetOptions;
  readonly #blocks = new Map<number, number>();
  readonly #held = new Set<number>();
  #busy = false;

  constructor(options: TargetOptions) {
    this.#options = options;
    this.unwrittenIsZero = options.unwrittenIsZero ?? true;
    this.blockSize = options.blockSize;
  }

  /** Gives a flat target other content than zeros. */
  async soil(): Promise<void> {
    await this.file.write(new Uint8Array(this.#options.size).fill(0xaa), this.#options.shift ?? 0);
  }

  async prepareWrite(offset: number, length: number): Promise<PreparedWrite> {
    await this.#exclusively();
    this.prepared.push({ offset, length });
    const held = this.#blocksOf(offset, length);
    for (const block of held) {
      expect(this.#held.has(block), `block ${block} is prepared already`).toBe(false);
      this.#held.add(block);
    }
    const places = this.#place(offset, length);
    let ended = false;
    const end = async (): Promise<void> => {
      expect(ended, 'a prepared write ends once').toBe(false);
      ended = true;
      await this.#exclusively();
      for (const block of held) this.#held.delete(block);
    };
    return {
      places,
      commit: async () => {
        await end();
        if (this.#options.failCommit?.(offset)) throw new Error('commit fails');
        this.committed += 1;
      },
      abort: async () => {
        await end();
        this.aborted += 1;
      },
    };
  }

  /** The disk's content. */
  async content(): Promise<Uint8Array> {
    const out = new Uint8Array(this.#options.size);
    if (this.blockSize === undefined) {
      await this.file.read(out, this.#options.shift ?? 0);
      return out;
    }
    for (const [block, at] of this.#blocks) {
      const start = block * this.blockSize;
      await this.file.read(out.subarray(start, Math.min(out.length, start + this.blockSize)), at);
    }
    return out;
  }

  #blocksOf(offset: number, length: number): number[] {
    if (this.blockSize === undefined) return [];
    const first = Math.floor(offset / this.blockSize);
    const last = Math.floor((offset + length - 1) / this.blockSize);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  }

  #place(offset: number, length: number): Place[] {
    expect(length).toBeGreaterThan(0);
    expect(offset + length).toBeLessThanOrEqual(this.#options.size);
    const shift = this.#options.shift ?? 0;
    if (this.blockSize === undefined)
      return [{ offset, length, file: this.file, fileOffset: offset + shift }];
    const blockSize = this.blockSize;
    return this.#blocksOf(offset, length).map((block) => {
      const at = this.#blocks.get(block) ?? shift + this.#blocks.size * blockSize;
      this.#blocks.set(block, at);
      const start = Math.max(offset, block * blockSize);
      const end = Math.min(offset + length, (block + 1) * blockSize);
      return { offset: start, length: end - start, file: this.file, fileOffset: at + (start % blockSize) };
    });
  }

  async #exclusively(): Promise<void> {
    expect(this.#busy, 'calls into the target overlap').toBe(false);
    this.#busy = true;
    await new Promise((resolve) => setImmediate(resolve));
    this.#busy = false;
  }
}

export interface FakeOptions {
  alignment?: number;
  supported?: boolean;
  maxLength?: number;
  /** Answers `unsupported` from the n-th write on. */
  failFrom?: number;
  /** Shortens what a write does. */
  shorten?: (length: number) => number;
  before?: (request: OffloadWriteRequest) => void | Promise<void>;
}

export interface FakeProvider extends OffloadProvider {
  readonly calls: OffloadWriteRequest[];
  asked: number;
}

/** A provider that copies bytes under any name. */
export function fakeProvider(manager: TokenManager, id: ProviderId, options: FakeOptions = {}): FakeProvider {
  const alignment = options.alignment ?? 1;
  const inner = rangeProvider(manager, {
    id,
    capabilities: () => ({
      supported: options.supported ?? true,
      alignment,
      maxLength: options.maxLength ?? 1 << 30,
      ...(options.supported === false ? { reason: `${id} is not possible here` } : {}),
    }),
    async move({ source, sourceOffset, target, targetOffset, length }) {
      for (const value of [sourceOffset, targetOffset, length]) expect(value % alignment).toBe(0);
      const done = options.shorten?.(length) ?? length;
      const bytes = new Uint8Array(done);
      await source.read(bytes, sourceOffset);
      await target.write(bytes, targetOffset);
      return { status: 'done', length: done };
    },
  });
  const fake: FakeProvider = {
    ...inner,
    calls: [],
    asked: 0,
    capabilities(source, target) {
      fake.asked += 1;
      return inner.capabilities(source, target);
    },
    async offloadWrite(request) {
      fake.calls.push(request);
      await options.before?.(request);
      if (fake.calls.length > (options.failFrom ?? Number.POSITIVE_INFINITY)) {
        return unsupported(`${id} gave up`, 'files');
      }
      return inner.offloadWrite(request);
    },
  };
  return fake;
}
