/**
 * Many writers at once while snapshots are made, deleted and restored: whatever a snapshot or the disk shows must
 * be explained by the writes and when they began and ended.
 *
 * Rule for a sector: it shows a write that nothing else came after. A write comes after another for certain when it
 * began after that one had ended. A snapshot is of the moment at which it was made: writes that began before are in
 * it, also those that ended later; later ones are not. A restore is a write of the whole disk at one moment.
 */
import { describe, expect, it } from 'vitest';
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
    await this.fake.volume.write(bytes, first * SECTOR);
    event.ended = this.tick();
  }

  snapshot(): void {
    this.taken.push({ layer: this.fake.snapshot(`s${this.#time}`), at: this.tick() });
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

  async check(layer: SnapshotLayer | undefined, before: number): Promise<void> {
    const device = layer ? new SnapshotView(this.fake.volume, layer) : this.fake.volume;
    const bytes = new Uint8Array(SIZE);
    await device.read(bytes, 0);
    const ids = new Uint32Array(bytes.buffer);
    for (let sector = 0; sector < SECTORS; sector += 1) {
      const shown = new Set(ids.subarray(sector * 128, sector * 128 + 128));
      const legal = this.legal(sector, before);
      const [id] = shown;
      if (shown.size === 1 && id !== undefined && legal.has(id)) continue;
      throw new Error(
        `${layer?.name ?? 'the disk'}, sector ${sector}: shows ${[...shown]}, may show ${[...legal]}`,
      );
    }
  }
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
      if (luck < 3) history.snapshot();
      else if (luck < 5) await history.delete();
      else if (luck < 8 && withRestore) await history.restore();
      // Snapshots are read while all this goes on, and show what they will always show.
      else for (const { layer, at } of history.taken.slice(-2)) await readTwice(history, layer, at);
    }
  })();
  await Promise.all(writers);
  writing = false;
  await changes;
  return history;
}

/** A snapshot shows the same twice, once nothing of it is being written any more. */
async function readTwice(history: History, layer: SnapshotLayer, at: number): Promise<void> {
  if (history.events.some(({ began, ended }) => began < at && ended === Number.POSITIVE_INFINITY)) return;
  await history.check(layer, at);
}

function seeds(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}

describe('snapshots of a disk with many writers', () => {
  it.each(seeds(1, 15))('show what was written before, and nothing later (%i)', async (seed) => {
    const history = await run(seed, false);
    for (const { layer, at } of history.taken) await history.check(layer, at);
    await history.check(undefined, Number.POSITIVE_INFINITY);
    expect(history.events.length).toBeGreaterThan(100);
  });

  it.each(seeds(101, 25))('also while it is put back to one of them (%i)', async (seed) => {
    const history = await run(seed, true);
    for (const { layer, at } of history.taken) await history.check(layer, at);
    await history.check(undefined, Number.POSITIVE_INFINITY);
  });
});
