/**
 * Preparing and committing writes of a target in the order and with the exclusion that it asks for.
 *
 * Invariants: writes are prepared in disk order although the work before and after overlaps (so that
 * allocation follows the disk); two writes that touch the same block are never prepared at the same time;
 * calls into the target never overlap; every prepared write is committed or aborted exactly once.
 */
import { KiB } from '../base/bytes.js';
import type { Place } from '../block/extent.js';
import type { TransferTarget } from './transfer-types.js';

/** A place in the queue. Whoever has one must call `leave`, entered or not. */
export interface Ticket {
  /** Resolves when everybody before has left. */
  enter(): Promise<void>;
  leave(): void;
}

/** Lets pieces of work that overlap pass one point in the order in which they asked. */
export class Turnstile {
  #tail: Promise<void> = Promise.resolve();

  ticket(): Ticket {
    const before = this.#tail;
    let leave: () => void = () => undefined;
    const left = new Promise<void>((resolve) => {
      leave = resolve;
    });
    this.#tail = before.then(() => left);
    return { enter: () => before, leave };
  }
}

export interface Prepared {
  readonly places: readonly Place[];
  commit(): Promise<void>;
  abort(): Promise<void>;
}

interface Outstanding {
  firstBlock: number;
  lastBlock: number;
  settled: Promise<void>;
}

/** Shorter ranges are left to the final flush. */
const LONG_WRITE = 256 * KiB;

/**
 * Starts writing what was committed to storage, so that the final flush is short: in one piece, with what
 * the format put between the places.
 */
async function writeBehind(places: readonly Place[]): Promise<void> {
  const file = places[0]?.file;
  if (!file?.writeBehind) return;
  const start = Math.min(...places.map(({ fileOffset }) => fileOffset));
  const end = Math.max(...places.map(({ fileOffset, length }) => fileOffset + length));
  const stored = places.reduce((sum, { length }) => sum + length, 0);
  const isDense = end - start <= 2 * stored;
  if (isDense && end - start >= LONG_WRITE) await file.writeBehind(start, end - start);
}

export class PreparedWrites {
  readonly #target: TransferTarget;
  readonly #outstanding = new Set<Outstanding>();
  #mutex: Promise<unknown> = Promise.resolve();

  constructor(target: TransferTarget) {
    this.#target = target;
  }

  /** Waits until no prepared write shares a block with the range, then prepares it. */
  async prepare(offset: number, length: number): Promise<Prepared> {
    const blockSize = this.#target.blockSize;
    const entry: Outstanding = { firstBlock: 0, lastBlock: -1, settled: Promise.resolve() };
    if (blockSize !== undefined) {
      entry.firstBlock = Math.floor(offset / blockSize);
      entry.lastBlock = Math.floor((offset + length - 1) / blockSize);
      await this.#untilFree(entry);
    }
    let settle: () => void = () => undefined;
    entry.settled = new Promise((resolve) => {
      settle = resolve;
    });
    const prepared = await this.#alone(() => this.#target.prepareWrite(offset, length));
    this.#outstanding.add(entry);
    // A commit that fails may have become visible in part: the place is not given back then.
    const end = async (act: () => Promise<void>): Promise<void> => {
      if (!this.#outstanding.has(entry)) return;
      this.#outstanding.delete(entry);
      try {
        await this.#alone(act);
      } finally {
        settle();
      }
    };
    return {
      places: prepared.places,
      commit: async () => {
        await end(() => prepared.commit());
        await writeBehind(prepared.places);
      },
      abort: () => end(() => prepared.abort()),
    };
  }

  async #untilFree(wanted: Outstanding): Promise<void> {
    for (const other of [...this.#outstanding]) {
      if (other.firstBlock <= wanted.lastBlock && wanted.firstBlock <= other.lastBlock) await other.settled;
    }
  }

  async #alone<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#mutex.then(act);
    this.#mutex = turn.catch(() => undefined);
    return turn;
  }
}
