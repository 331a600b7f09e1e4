/**
 * The slots of a thin device's data file: places for one chunk each, reserved before anything is written to them.
 *
 * Invariants: a slot is either free, held by one open device (its *owner*), or a chunk's for ever; which, is in
 * the map, so it holds between processes. An owner has a claim as long as it lives: slots of one whose claim can be
 * taken belong to nobody and become free. Slots are reserved some at a time, because each change of the map is
 * flushed.
 */
import type { Claims, Release } from '../../../io/claims.js';
import type { LmdbMap, MapChange } from '../../../io/lmdb-map.js';

export const MAPS = ['chunks', 'free', 'held', 'counters'] as const;
/** Key of the first slot that was never given out, in `counters`. */
const NEXT = 0;
const RESERVED_AT_A_TIME = 16;
const SWEPT_AT_A_TIME = 256;
/** Numbers of owners: as claims they begin here. */
const OWNER_CLAIMS = 2 ** 43;
const MAX_OWNER = 2 ** 40;

/** How many slots were ever given out. */
export function slotCount(map: { get(map: string, key: number): number | undefined }): number {
  return map.get('counters', NEXT) ?? 0;
}

function setFree(change: MapChange, slots: readonly number[]): void {
  for (const slot of slots) {
    change.remove('held', slot);
    change.put('free', slot, 0);
  }
}

export class SlotPool {
  readonly #map: LmdbMap;
  readonly #owner: number;
  readonly #release: Release;
  #ready: number[] = [];

  private constructor(map: LmdbMap, owner: number, release: Release) {
    this.#map = map;
    this.#owner = owner;
    this.#release = release;
  }

  /** Takes a number that no open device has. */
  static async open(map: LmdbMap, claims: Claims, random: (count: number) => Uint8Array): Promise<SlotPool> {
    for (;;) {
      const owner = Number(Buffer.from(random(6)).readUIntLE(0, 6)) % MAX_OWNER;
      const release = claims.tryTake(OWNER_CLAIMS + owner);
      if (release) return new SlotPool(map, owner, release);
    }
  }

  /** @throws NO_SPACE, IO_FAILED */
  take(): number {
    if (this.#ready.length === 0) this.#ready = this.#map.change((change) => this.#reserve(change));
    return this.#ready.shift() as number;
  }

  /** A slot that is not used after all. */
  giveBack(slot: number): void {
    this.#ready.unshift(slot);
  }

  /** What was not used is free for others. */
  close(): void {
    const slots = this.#ready;
    this.#ready = [];
    try {
      if (slots.length > 0) this.#map.change((change) => setFree(change, slots));
    } finally {
      this.#release();
    }
  }

  #reserve(change: MapChange): number[] {
    const slots = change.entries('free', -1, RESERVED_AT_A_TIME).map(([slot]) => slot);
    for (const slot of slots) change.remove('free', slot);
    const next = slotCount(change);
    const more = RESERVED_AT_A_TIME - slots.length;
    for (let slot = next; slot < next + more; slot += 1) slots.push(slot);
    if (more > 0) change.put('counters', NEXT, next + more);
    for (const slot of slots) change.put('held', slot, this.#owner);
    return slots;
  }
}

/** Frees what devices that were not closed have left. `forget` gives the storage of a slot back. */
export async function sweepSlots(
  map: LmdbMap,
  claims: Claims,
  forget: (slot: number) => Promise<void>,
): Promise<void> {
  /** Owners that are gone: nobody else can take these numbers meanwhile. */
  const gone = new Map<number, Release | undefined>();
  try {
    for (let after = -1; ; ) {
      const batch = map.read((view) => view.entries('held', after, SWEPT_AT_A_TIME));
      const left: number[] = [];
      for (const [slot, owner] of batch) {
        if (!gone.has(owner)) gone.set(owner, claims.tryTake(OWNER_CLAIMS + owner));
        if (!gone.get(owner)) continue;
        // It may have been sealed between our look and its owner's end; from now on nothing changes.
        if (map.read((view) => view.get('held', slot)) !== owner) continue;
        await forget(slot);
        left.push(slot);
      }
      if (left.length > 0) map.change((change) => setFree(change, left));
      after = batch.at(-1)?.[0] ?? after;
      if (batch.length < SWEPT_AT_A_TIME) return;
    }
  } finally {
    for (const release of gone.values()) release?.();
  }
}
