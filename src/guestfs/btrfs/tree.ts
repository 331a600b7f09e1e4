/**
 * B-trees of btrfs: items in the order of their keys, every block verified.
 *
 * Invariant: a block is used only when its checksum, address, file system, level and generation are what
 * its parent says; keys rise strictly over the whole walk and levels fall, so walks end whatever the blocks
 * hold. One path of blocks is in memory, and CACHE_BLOCKS inner ones.
 *
 * Source: btrfs documentation, "On-disk Format", "B-tree".
 */
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { viewOf } from '../volume-bytes.js';
import type { ChunkMap } from './chunks.js';
import { type BtrfsSuperblock, hasGoodChecksum } from './superblock.js';

const HEADER_BYTES = 101;
const ITEM_BYTES = 25;
const POINTER_BYTES = 33;
const KEY_BYTES = 17;
const CACHE_BLOCKS = 64;

export interface Key {
  object: bigint;
  type: number;
  offset: bigint;
}

export interface Item {
  key: Key;
  data: Uint8Array;
}

export interface TreeRoot {
  logical: number;
  level: number;
  generation: bigint;
}

function compare(a: Key, b: Key): number {
  if (a.object !== b.object) return a.object < b.object ? -1 : 1;
  if (a.type !== b.type) return a.type - b.type;
  return a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : 0;
}

function keyAt(view: DataView, at: number): Key {
  return {
    object: view.getBigUint64(at, true),
    type: view.getUint8(at + 8),
    offset: view.getBigUint64(at + 9, true),
  };
}

/** Reads tree blocks of one file system. */
export class Trees {
  readonly #read: ReadBytes;
  readonly #sb: BtrfsSuperblock;
  readonly #chunks: ChunkMap;
  readonly #cache = new Map<number, Uint8Array>();

  /** @param read bytes of the volume */
  constructor(read: ReadBytes, sb: BtrfsSuperblock, chunks: ChunkMap) {
    this.#read = read;
    this.#sb = sb;
    this.#chunks = chunks;
  }

  async #block({ logical, level, generation }: TreeRoot): Promise<Uint8Array> {
    const cached = this.#cache.get(logical);
    const { nodeSize, uuid } = this.#sb;
    const bytes = cached ?? (await this.#read(this.#chunks.toDevice(logical, nodeSize), nodeSize));
    const view = viewOf(bytes);
    const right =
      (cached !== undefined || hasGoodChecksum(bytes)) &&
      Buffer.compare(bytes.subarray(32, 48), uuid) === 0 &&
      Number(view.getBigUint64(48, true)) === logical &&
      view.getBigUint64(80, true) === generation &&
      view.getUint8(100) === level;
    if (!right) throw inconsistent(`the tree block at ${logical} is damaged`);
    if (level > 0 && !cached) {
      if (this.#cache.size >= CACHE_BLOCKS) this.#cache.clear();
      this.#cache.set(logical, bytes);
    }
    return bytes;
  }

  *#leafItems(bytes: Uint8Array, logical: number): Generator<Item> {
    const view = viewOf(bytes);
    const count = view.getUint32(96, true);
    if (HEADER_BYTES + count * ITEM_BYTES > bytes.length)
      throw inconsistent(`the tree block at ${logical} is damaged`);
    for (let index = 0; index < count; index += 1) {
      const at = HEADER_BYTES + index * ITEM_BYTES;
      const start = HEADER_BYTES + view.getUint32(at + KEY_BYTES, true);
      const end = start + view.getUint32(at + KEY_BYTES + 4, true);
      if (start < HEADER_BYTES + count * ITEM_BYTES || end > bytes.length)
        throw inconsistent(`the tree block at ${logical} is damaged`);
      yield { key: keyAt(view, at), data: bytes.subarray(start, end) };
    }
  }

  async *#walk(root: TreeRoot, from: Key, until: Key): AsyncGenerator<Item> {
    const bytes = await this.#block(root);
    if (root.level === 0) {
      yield* this.#leafItems(bytes, root.logical);
      return;
    }
    const view = viewOf(bytes);
    const count = view.getUint32(96, true);
    if (count === 0 || HEADER_BYTES + count * POINTER_BYTES > bytes.length)
      throw inconsistent(`the tree block at ${root.logical} is damaged`);
    for (let index = 0; index < count; index += 1) {
      const at = HEADER_BYTES + index * POINTER_BYTES;
      const key = keyAt(view, at);
      if (compare(key, until) >= 0) return;
      // A child ends where the next one begins.
      if (index + 1 < count && compare(keyAt(view, at + POINTER_BYTES), from) <= 0) continue;
      const child: TreeRoot = {
        logical: Number(view.getBigUint64(at + KEY_BYTES, true)),
        level: root.level - 1,
        generation: view.getBigUint64(at + KEY_BYTES + 8, true),
      };
      yield* this.#walk(child, from, until);
    }
  }

  /** Items with keys from `from` (inclusive) to `until` (exclusive). @throws IMAGE_CORRUPT (`inconsistent`) */
  async *items(root: TreeRoot, from: Key, until: Key): AsyncGenerator<Item> {
    let last: Key | undefined;
    for await (const item of this.#walk(root, from, until)) {
      if (last && compare(last, item.key) >= 0)
        throw inconsistent('the keys of one of its trees are out of order');
      last = item.key;
      if (compare(item.key, until) >= 0) return;
      if (compare(item.key, from) >= 0) yield item;
    }
  }
}

export const FIRST_KEY: Key = { object: 0n, type: 0, offset: 0n };
export const LAST_KEY: Key = { object: 0xffffffffffffffffn, type: 255, offset: 0xffffffffffffffffn };
