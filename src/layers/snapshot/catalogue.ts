/**
 * The snapshots of one disk as a list of layers, oldest first, and the epochs between them.
 *
 * An *epoch* is the time between two snapshots: a write belongs to the epoch in which it arrived, and to the
 * snapshots that were there then. Beginning an epoch is one assignment: nobody is waited for. A write of a later
 * epoch that is about to keep a chunk waits for earlier ones on the same chunk, and for nothing else: what they
 * write is part of the newer snapshot.
 *
 * What a snapshot shows of a chunk is in the first layer, from its own on, that has it, else in the primary.
 * New chunks go to the *active* layer, the newest intact one; layers behind it (broken, or about to go) are still
 * read from, so what they have is covered too.
 *
 * Invariant: `layers` is never changed, only replaced; a layer's device stays open as long as somebody who saw
 * it in a list is reading.
 */

import { type Flight, Flights } from '../../base/flights.js';
import type { WriteOnceDevice } from '../../block/write-once-device.js';
import type { FailurePolicy } from '../failure-policy.js';
import { ChunkSet } from './chunk-set.js';

/** Sizes in bytes. The chunk size is every layer's; it may change while there are none. */
export interface Geometry {
  readonly size: number;
  chunkSize: number;
}

/**
 * `broken`: a chunk that it needed was overwritten without being kept, so nobody can read it any more.
 * `deleting`: gone for everybody, but what older snapshots need of it is still being moved.
 */
export type LayerState = 'intact' | 'broken' | 'deleting';

export interface SnapshotLayerOptions {
  id: string;
  name: string;
  policy?: FailurePolicy;
  state?: LayerState;
}

export class SnapshotLayer {
  readonly id: string;
  readonly name: string;
  readonly device: WriteOnceDevice;
  readonly policy: FailurePolicy;
  state: LayerState;
  /** While it is being recorded that it is broken. */
  breaking: Promise<void> | undefined;

  constructor(
    { id, name, policy = 'fail-writes', state = 'intact' }: SnapshotLayerOptions,
    device: WriteOnceDevice,
  ) {
    this.id = id;
    this.name = name;
    this.device = device;
    this.policy = policy;
    this.state = state;
  }
}

/** Memory for what is known to be covered: 128 Mi chunks, which is 8 TiB of disk in chunks of 64 KiB. */
const COVERED_BYTES = 16 * 1024 * 1024;

export class Epoch {
  /** Writes that arrived in it and have not ended. */
  readonly writes = new Flights();
  /** Chunks that need not be kept any more. A hint: chunks may be missing. */
  readonly covered = new ChunkSet(COVERED_BYTES);
  /** Chunks that are being kept at this moment. */
  readonly copying = new Map<number, Promise<void>>();
  layers: readonly SnapshotLayer[];

  constructor(layers: readonly SnapshotLayer[]) {
    this.layers = layers;
  }

  /** Where new chunks go; undefined when nothing needs to be kept. */
  get active(): SnapshotLayer | undefined {
    return this.layers.findLast(({ state }) => state === 'intact');
  }

  /** The layers behind one, which are read after it. */
  behind(layer: SnapshotLayer): readonly SnapshotLayer[] {
    return this.layers.slice(this.layers.indexOf(layer) + 1);
  }
}

export class Catalogue {
  #layers: readonly SnapshotLayer[];
  #current: Epoch;
  /** Earlier epochs with writes under way, in order. */
  #past: Epoch[] = [];
  readonly #readers = new Flights();

  constructor(layers: readonly SnapshotLayer[]) {
    this.#layers = layers;
    this.#current = new Epoch(layers);
  }

  /** Oldest first. */
  get layers(): readonly SnapshotLayer[] {
    return this.#layers;
  }

  get epoch(): Epoch {
    return this.#current;
  }

  /** Adds the newest layer: from this moment on, writes belong to what comes after it. */
  append(layer: SnapshotLayer): void {
    this.#layers = [...this.#layers, layer];
    this.beginEpoch();
  }

  /** Begins an epoch with the same layers. */
  beginEpoch(): void {
    this.#past = [...this.#past, this.#current].filter(({ writes }) => writes.size > 0);
    this.#current = new Epoch(this.#layers);
  }

  /** Takes a layer out. Its device may be closed when `quiet` has resolved. */
  remove(layer: SnapshotLayer): void {
    const without = (layers: readonly SnapshotLayer[]) => layers.filter((each) => each !== layer);
    this.#layers = without(this.#layers);
    for (const epoch of [...this.#past, this.#current]) epoch.layers = without(epoch.layers);
  }

  /** Writes of epochs before this one that are under way on the range; undefined when there are none. */
  earlierWrites(epoch: Epoch, start: number, end: number): Promise<unknown> | undefined {
    if (this.#past.length === 0) return undefined;
    this.#past = this.#past.filter(({ writes }) => writes.size > 0);
    const waits: Promise<unknown>[] = [];
    for (const earlier of this.#past) {
      if (earlier === epoch) break;
      const wait = earlier.writes.overlapping(start, end);
      if (wait) waits.push(wait);
    }
    return waits.length === 0 ? undefined : Promise.all(waits);
  }

  /** Resolves when all writes that are under way now have ended; later ones are not waited for. */
  async settled(): Promise<void> {
    await Promise.all([...this.#past, this.#current].map(({ writes }) => writes.settled()));
  }

  /** Runs something that reads from devices of layers: none that is in the list now is closed before it ends. */
  async reading<T>(work: (layers: readonly SnapshotLayer[]) => Promise<T>): Promise<T> {
    const reader: Flight = this.#readers.enter(0, 1);
    try {
      return await work(this.#layers);
    } finally {
      this.#readers.leave(reader);
    }
  }

  /** Resolves when nobody reads any more who may have seen a layer that was removed by now. */
  async quiet(): Promise<void> {
    await this.#readers.settled();
  }
}
