/**
 * Blocks as a file, each handed out only if it has its hash at that moment.
 *
 * For data that others may change while it is used: bytes are read, hashed and handed out from one buffer, so
 * there is no instant between looking and using. Without a descriptor, so that nothing but reading is done
 * with it. Where a block is not what it was, another way to its data is tried.
 */
import { createHash } from 'node:crypto';
import { BugError } from '../../base/assert.js';
import { VhdkitError } from '../../base/errors.js';
import type { ByteRange, RandomAccessFile } from '../../io/random-access-file.js';
import type { Block, BlockMap } from './block-map.js';

/** Blocks kept for who reads them in parts: at most 32 MiB. */
const KEPT_BLOCKS = 8;

export interface BlockAccess {
  /** Fills the buffer with what lies where the block was found. */
  read(block: Block, buffer: Uint8Array): Promise<void>;
  /** Fills it with the block's data in another way, for when that is not the block any more. @throws if there is none */
  instead(block: Block, buffer: Uint8Array): Promise<void>;
  /** For messages. */
  readonly path: string;
}

function readOnly(path: string): VhdkitError {
  return new VhdkitError('READ_ONLY', `${path} is open for reading only`, {
    operation: 'write blocks',
    context: { path },
  });
}

/** Offsets are those of the map. */
export class CheckedFile implements RandomAccessFile {
  readonly path: string;
  readonly kind = 'file';
  readonly writable = false;
  readonly fd = undefined;
  readonly #blocks: BlockMap;
  readonly #access: BlockAccess;
  readonly #size: number;
  readonly #kept = new Map<number, Promise<Uint8Array>>();
  /** Bytes of blocks that were no longer what they had been. */
  replaced = 0;

  constructor(blocks: BlockMap, access: BlockAccess, size: number) {
    this.path = access.path;
    this.#blocks = blocks;
    this.#access = access;
    this.#size = size;
  }

  size(): number {
    return this.#size;
  }

  async read(buffer: Uint8Array, offset: number): Promise<number> {
    for (let done = 0; done < buffer.length; ) {
      const block = this.#blocks.at(offset + done);
      if (!block) throw new BugError(`no block at ${offset + done}`);
      const bytes = await this.#load(block);
      const start = offset + done - block.offset;
      const part = bytes.subarray(start, start + buffer.length - done);
      buffer.set(part, done);
      done += part.length;
    }
    return buffer.length;
  }

  #load(block: Block): Promise<Uint8Array> {
    const kept = this.#kept.get(block.number);
    if (kept) return kept;
    const loading = this.#checked(block);
    this.#kept.set(block.number, loading);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= KEPT_BLOCKS) break;
      this.#kept.delete(oldest);
    }
    return loading;
  }

  async #checked(block: Block): Promise<Uint8Array> {
    const bytes = new Uint8Array(block.length);
    await this.#access.read(block, bytes);
    const digest = createHash('sha256').update(bytes).digest();
    if (digest.compare(this.#blocks.digest(block.number)) === 0) return bytes;
    this.replaced += block.length;
    await this.#access.instead(block, bytes);
    return bytes;
  }

  nextData(offset: number, end: number): ByteRange | undefined {
    return offset < end ? { offset, length: end - offset } : undefined;
  }

  async write(): Promise<void> {
    throw readOnly(this.path);
  }

  async zero(): Promise<void> {
    throw readOnly(this.path);
  }

  async truncate(): Promise<void> {
    throw readOnly(this.path);
  }

  async flush(): Promise<void> {}

  async allocatedBytes(): Promise<number> {
    return 0;
  }

  /** None: what is read is checked each time. */
  fingerprint(): undefined {
    return undefined;
  }

  async close(): Promise<void> {
    this.#kept.clear();
  }
}
