/**
 * Which chunks of a sparse write-once device have been written, for all processes that share it.
 *
 * Invariants: a page is changed only under its claim, and what an earlier owner left half done (a bit in the
 * first copy only, a torn copy) is finished before anything is added. `has` says yes only to what a crash can't take
 * back. What this process once saw written is not looked up again; what it did not is, so that others' writes are
 * seen at once. Memory: at most CACHED_PAGES pages.
 */
import type { Claims, Release } from '../../../io/claims.js';
import { writeOnceCorrupt } from '../shape.js';
import type { SoundFile } from '../sound-file.js';
import { CHUNKS_PER_PAGE, PAGE_BYTES, type SparseLayout } from './layout.js';
import {
  type Bits,
  decodePage,
  encodePage,
  hasBit,
  judge,
  type PageState,
  sameBits,
  setBit,
} from './map-page.js';

/** 12 MiB. */
const CACHED_PAGES = 1024;
/** Claims: chunks have the numbers from 0, pages those from here. */
const PAGE_CLAIMS = 2 ** 42;
/** Looks at a page that seems damaged, while somebody else may be writing it, for those that can't claim it. */
const LOOKS = 6;

interface Cached extends PageState {
  /** The two copies as they were read. */
  raw: Uint8Array;
  /** When the second copy was first seen as it is: a mark of the file's flushes. */
  seen: number;
}

/** A page that is this process's until it is given back, and that no earlier owner has left half done. */
export interface ReservedPage {
  page: number;
  bits: Bits;
  release: Release;
  /** The second copy is durable. */
  sure: boolean;
}

/** A page with bits that are in its first copy and not yet in the second. */
export interface ClaimedPage {
  page: number;
  bits: Bits;
  before: Bits;
  release: Release;
}

export class PresenceMap {
  readonly #file: SoundFile;
  readonly #layout: SparseLayout;
  readonly #claims: Claims | undefined;
  readonly #pause: (milliseconds: number) => Promise<void>;
  readonly #cache = new Map<number, Cached>();
  /** Chunks of this process whose bit is in the first copy only. */
  readonly #underWay = new Set<number>();

  /** Without `claims` for reading only. */
  constructor(
    file: SoundFile,
    layout: SparseLayout,
    claims: Claims | undefined,
    pause: (milliseconds: number) => Promise<void>,
  ) {
    this.#file = file;
    this.#layout = layout;
    this.#claims = claims;
    this.#pause = pause;
  }

  /** Whether the chunk has been written, durably. @throws IMAGE_CORRUPT, IO_FAILED */
  async has(chunk: number): Promise<boolean> {
    const page = Math.floor(chunk / CHUNKS_PER_PAGE);
    const index = chunk % CHUNKS_PER_PAGE;
    const cached = this.#cache.get(page);
    if (cached && hasBit(cached.confirmed, index)) return true;
    if (this.#underWay.has(chunk)) return false;
    const state = await this.#look(page);
    if (hasBit(state.confirmed, index)) return true;
    // A bit that was not confirmed: somebody is about to, or nobody is any more. Those that only read need not
    // know which: the data is there, and as long as nobody was told, the primary shows the same.
    if (!hasBit(state.claimed, index)) return false;
    return !this.#claims || hasBit((await this.#settled(page)).confirmed, index);
  }

  /** Chunks that have been written, in order. */
  async *written(): AsyncGenerator<number> {
    for (let page = 0; page < this.#layout.pages; page += 1) {
      const state = await this.#look(page);
      const sure = !this.#claims || sameBits(state.confirmed, state.claimed);
      const bits = (sure ? state : await this.#settled(page)).claimed;
      for (let byte = 0; byte < bits.length; byte += 1) {
        if (bits[byte] === 0) continue;
        for (let bit = 0; bit < 8; bit += 1)
          if (hasBit(bits, byte * 8 + bit)) yield page * CHUNKS_PER_PAGE + byte * 8 + bit;
      }
    }
  }

  /**
   * Reserves a page for `claim`; undefined where another process is at it. Where the answer is not `sure`, the file is
   * flushed before.
   */
  async reserve(page: number): Promise<ReservedPage | undefined> {
    const release = this.#claims?.tryTake(PAGE_CLAIMS + page);
    if (!release) return undefined;
    try {
      const { confirmed } = await this.#settle(page);
      const known = this.#cache.get(page);
      const sure = known !== undefined && this.#file.isFlushedSince(known.seen);
      return { page, bits: confirmed, release, sure };
    } catch (error) {
      release();
      throw error;
    }
  }

  /**
   * Puts the bits of chunks, whose data is durable, into the page's first copy. The next flush of the file makes it
   * durable, `confirm` tells everybody.
   */
  async claim(
    { page, bits: before, release }: ReservedPage,
    chunks: readonly number[],
  ): Promise<ClaimedPage> {
    const bits = Uint8Array.from(before);
    for (const chunk of chunks) {
      setBit(bits, chunk % CHUNKS_PER_PAGE);
      this.#underWay.add(chunk);
    }
    const claimed = { page, bits, before, release };
    try {
      await this.#put('mapOffset', page, bits);
    } catch (error) {
      await this.takeBack(claimed, chunks);
      throw error;
    }
    return claimed;
  }

  /** The first copy is durable: everybody may know. */
  async confirm({ page, bits, release }: ClaimedPage, chunks: readonly number[]): Promise<void> {
    try {
      // If this fails, the first copy says it, and whoever looks next puts it right.
      await this.#put('confirmedOffset', page, bits).catch(() => this.#cache.delete(page));
    } finally {
      for (const chunk of chunks) this.#underWay.delete(chunk);
      release();
    }
  }

  /** The first copy did not become durable: it goes back to what it was, as far as that is possible. */
  async takeBack({ page, before, release }: ClaimedPage, chunks: readonly number[]): Promise<void> {
    this.#cache.delete(page);
    await this.#put('mapOffset', page, before).catch(() => undefined);
    for (const chunk of chunks) this.#underWay.delete(chunk);
    release();
  }

  async #put(copy: 'mapOffset' | 'confirmedOffset', page: number, bits: Bits): Promise<void> {
    await this.#file.file.write(encodePage(this.#layout, page, bits), this.#layout[copy] + page * PAGE_BYTES);
  }

  /** The page as it is now, settled by its claim where it seems damaged. */
  async #look(page: number): Promise<PageState> {
    for (let look = 1; ; look += 1) {
      const state = await this.#read(page);
      if (state && !state.damaged) return state;
      // Somebody may be writing it at this moment; under the claim nobody is.
      if (this.#claims) return this.#settled(page);
      if (look === LOOKS) return state ?? this.#damaged(page);
      await this.#pause(2 ** look);
    }
  }

  async #settled(page: number): Promise<PageState> {
    const release = await this.#claims?.take(PAGE_CLAIMS + page);
    try {
      return await this.#settle(page);
    } finally {
      release?.();
    }
  }

  /** Under the page's claim: finishes what somebody left, so that both copies say the same. */
  async #settle(page: number): Promise<PageState> {
    const state = (await this.#read(page)) ?? this.#damaged(page);
    const { first, confirmed, claimed, damaged } = state;
    const isFirstBehind = first === 'damaged' || !sameBits(first, claimed);
    const isSecondBehind = damaged === 'second' || !sameBits(confirmed, claimed);
    if (!isFirstBehind && !isSecondBehind) return state;
    // One after the other, each over a copy that can be done without.
    if (isFirstBehind) await this.#put('mapOffset', page, claimed);
    await this.#file.flush();
    if (isSecondBehind) await this.#put('confirmedOffset', page, claimed);
    return (await this.#read(page)) ?? this.#damaged(page);
  }

  #damaged(page: number): never {
    throw writeOnceCorrupt(
      'WRITE_ONCE_MAP_DAMAGED',
      `both copies of page ${page} of its map are damaged: which chunks it has can't be told`,
      { path: this.#file.file.path, offset: this.#layout.mapOffset + page * PAGE_BYTES },
    );
  }

  /** Both copies; undefined when both are damaged. */
  async #read(page: number): Promise<PageState | undefined> {
    const raw = new Uint8Array(2 * PAGE_BYTES);
    const halves = [raw.subarray(0, PAGE_BYTES), raw.subarray(PAGE_BYTES)] as const;
    await this.#fill(halves[0], this.#layout.mapOffset + page * PAGE_BYTES);
    await this.#fill(halves[1], this.#layout.confirmedOffset + page * PAGE_BYTES);
    const known = this.#cache.get(page);
    if (known && Buffer.compare(known.raw, raw) === 0) return known;
    const [first, second] = halves.map((bytes) => decodePage(this.#layout, page, bytes));
    const state = judge(first ?? 'damaged', second ?? 'damaged');
    if (state && !state.damaged) this.#keep(page, { ...state, raw, seen: this.#firstSeen(known, raw) });
    return state;
  }

  #firstSeen(known: Cached | undefined, raw: Uint8Array): number {
    const isSame = known && Buffer.compare(known.raw.subarray(PAGE_BYTES), raw.subarray(PAGE_BYTES)) === 0;
    return isSame ? known.seen : this.#file.now;
  }

  async #fill(bytes: Uint8Array, offset: number): Promise<void> {
    if (this.#file.file.peek?.(bytes, offset)) return;
    await this.#file.file.read(bytes, offset);
  }

  #keep(page: number, state: Cached): void {
    this.#cache.delete(page);
    this.#cache.set(page, state);
    const [oldest] = this.#cache.keys();
    if (this.#cache.size > CACHED_PAGES && oldest !== undefined) this.#cache.delete(oldest);
  }
}
