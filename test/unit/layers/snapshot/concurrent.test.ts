/**
 * Many writers at once while snapshots are made, deleted and restored: whatever a snapshot or the disk shows must
 * be explained by the writes and when they began and ended.
 *
 * Rule for a sector: it shows a write that nothing else came after. A write comes after another for certain when it
 * began after that one had ended. A snapshot is of the moment at which it was made: writes that began before are in
 * it, also those that ended later; later ones are not. When those have ended, it shows the same for ever. A restore is
 * a write of the whole disk at one moment.
 */
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../../../src/block/block-device.js';
import type { SnapshotLayer } from '../../../../src/layers/snapshot/catalogue.js';
import { moveDown } from '../../../../src/layers/snapshot/move-down.js';
import { SnapshotView } from '../../../../src/layers/snapshot/snapshot-view.js';
import { type FakeVolume, fakeVolume } from '../../../support/snapshot-fakes.js';

const CHUNK = 4096;
const SECTOR = 512;
const SECTORS = 5 * 8 + 3;
const SIZE = SECTORS * SECTOR;

/** A write of some sectors, or (a restore) of all of them. */
interface Event {
  id: number;
  first: number;
  last: number;
  began: number;
  /** Infinite: not yet. */
  ended: number;
  /** Of a restore: what it shows. */
  source?: Taken;
}

interface Taken {
  layer: SnapshotLayer;
  at: number;
  /** What had begun before has ended. */
  isMade: boolean;
  /** What sectors showed since. */
  shown: Map<number, number>;
}

function random(seed: number): (limit: number) => number {
  let state = seed * 2_654_435_761 + 1;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class History {
  readonly fake: FakeVolume;
  readonly events: Event[] = [];
  readonly taken: Taken[] = [];
  readonly next: (limit: number) => number;
  /** Writes that were done at once. */
  quick = 0;
  #time = 0;

  constructor(seed: number) {
    const next = random(seed);
    this.next = next;
    const delay = async (): Promise<void> => {
      for (let turns = next(4); turns > 0; turns -= 1) await turn();
    };
    this.fake = fakeVolume(new Uint8Array(SIZE), CHUNK, { delay });
    this.events.push({ id: 0, first: 0, last: SECTORS - 1, began: 0, ended: 0 });
  }

  tick(): number {
    this.#time += 1;
    return this.#time;
  }

  async write(): Promise<void> {
    const first = this.next(SECTORS);
    const count = 1 + this.next(Math.min(12, SECTORS - first));
    const id = this.events.length;
    const event = { id, first, last: first + count - 1, began: this.tick(), ended: Number.POSITIVE_INFINITY };
    this.events.push(event);
    const bytes = new Uint8Array(count * SECTOR);
    new Uint32Array(bytes.buffer).fill(id);
    const { volume } = this.fake;
    const isDone = this.next(2) === 0 && volume.writeNow?.(bytes, first * SECTOR) === true;
    if (!isDone) await volume.write(bytes, first * SECTOR);
    this.quick += isDone ? 1 : 0;
    event.ended = this.tick();
    // Else one that never meets a promise would go on alone.
    if (isDone) await turn();
  }

  snapshot(): void {
    const taken: Taken = {
      layer: this.fake.snapshot(`s${this.#time}`),
      at: this.tick(),
      isMade: false,
      shown: new Map(),
    };
    this.taken.push(taken);
    void this.fake.volume.earlierWrites().then(() => {
      taken.isMade = true;
    });
  }

  async delete(): Promise<void> {
    const { volume, copier } = this.fake;
    const [taken] = this.taken.splice(this.next(this.taken.length), 1);
    if (!taken) return;
    const { layer } = taken;
    layer.state = 'deleting';
    await volume.catalogue.settled();
    await moveDown({ layer, volume, copier });
    volume.catalogue.remove(layer);
    await volume.catalogue.quiet();
    await layer.device.close();
  }

  async restore(): Promise<void> {
    const { volume } = this.fake;
    const source = this.taken[this.next(this.taken.length)];
    if (!source) return;
    const settled = new Set<number>();
    const at = this.tick();
    const event = { id: -1, first: 0, last: SECTORS - 1, began: at, ended: at, source };
    this.events.push({ ...event, id: this.events.length });
    const run = volume.beginRestore(source.layer, {
      has: (chunk) => settled.has(chunk),
      add: async (chunks) => {
        await turn();
        for (const chunk of chunks) settled.add(chunk);
      },
    });
    await run.sweep();
    volume.endRestore();
  }

  /** Ids that a sector may show, of what had begun before a moment. */
  legal(sector: number, before: number): Set<number> {
    const touching = this.events.filter(
      ({ first, last, began }) => first <= sector && sector <= last && began < before,
    );
    const legal = touching.filter(({ ended }) => !touching.some(({ began }) => began > ended));
    const ids = legal.flatMap(({ id, source }) => (source ? [...this.legal(sector, source.at)] : [id]));
    return new Set(ids);
  }

  async checkDisk(): Promise<void> {
    await this.#read(this.fake.volume, 0, SECTORS, (sector, id) =>
      this.#judge('the disk', sector, id, Number.POSITIVE_INFINITY),
    );
  }

  /** Some sectors of a snapshot that has been made; default: all. */
  async check({ layer, at, isMade, shown }: Taken, first = 0, count = SECTORS): Promise<void> {
    if (!isMade) return;
    await this.#read(new SnapshotView(this.fake.volume, layer), first, count, (sector, id) => {
      this.#judge(layer.name, sector, id, at);
      const before = shown.get(sector) ?? id;
      shown.set(sector, before);
      if (before !== id) throw new Error(`${layer.name}, sector ${sector}: showed ${before}, now ${id}`);
    });
  }

  async #read(
    device: BlockDevice,
    first: number,
    count: number,
    see: (sector: number, id: number | undefined) => void,
  ): Promise<void> {
    const bytes = new Uint8Array(count * SECTOR);
    await device.read(bytes, first * SECTOR);
    const ids = new Uint32Array(bytes.buffer);
    for (let index = 0; index < count; index += 1) {
      const shown = new Set(ids.subarray(index * 128, index * 128 + 128));
      const [id] = shown;
      see(first + index, shown.size === 1 ? id : undefined);
    }
  }

  #judge(name: string, sector: number, id: number | undefined, before: number): asserts id is number {
    const legal = this.legal(sector, before);
    if (id !== undefined && legal.has(id)) return;
    throw new Error(`${name}, sector ${sector}: shows ${id ?? 'a mixture'}, may show ${[...legal]}`);
  }
}

function ignoreIfDeleted({ layer }: Taken, error: unknown): void {
  if (layer.state !== 'deleting') throw error;
}

async function run(seed: number, withRestore: boolean): Promise<History> {
  const history = new History(seed);
  const { next } = history;
  const writers = Array.from({ length: 6 }, async () => {
    for (let count = 0; count < 40; count += 1) await history.write();
  });
  let writing = true;
  const changes = (async () => {
    while (writing) {
      for (let turns = next(30); turns > 0; turns -= 1) await turn();
      const luck = next(10);
      if (luck < 4) history.snapshot();
      else if (luck < 7 || !withRestore) await history.delete();
      else await history.restore();
    }
  })();
  // Snapshots are read while all this goes on, and show what they will always show.
  const readers = Array.from({ length: 3 }, async () => {
    for (; writing; await turn()) {
      const taken = history.taken[Math.max(0, history.taken.length - 1 - next(2))];
      const first = next(SECTORS);
      const count = Math.min(1 + next(10), SECTORS - first);
      if (taken) await history.check(taken, first, count).catch((error) => ignoreIfDeleted(taken, error));
    }
  });
  await Promise.all(writers);
  writing = false;
  await Promise.all([changes, ...readers]);
  return history;
}

/** Many more with VHDKIT_SOAK. */
function seeds(first: number, count: number): number[] {
  const length = process.env.VHDKIT_SOAK ? 40 * count : count;
  return Array.from({ length }, (_, index) => first + index);
}

describe('snapshots of a disk with many writers', () => {
  it.each(seeds(1, 15))('show what was written before, and nothing later (%i)', async (seed) => {
    const history = await run(seed, false);
    for (const taken of history.taken) await history.check(taken);
    await history.checkDisk();
    expect(history.events.length).toBeGreaterThan(100);
    expect(history.quick).toBeGreaterThan(0);
  });

  it.each(seeds(10_001, 25))('also while it is put back to one of them (%i)', async (seed) => {
    const history = await run(seed, true);
    for (const taken of history.taken) await history.check(taken);
    await history.checkDisk();
  });
});
