/**
 * An image with snapshots whose machine stops at any instant: every snapshot shows its moment, every flushed write
 * is there, a restore that was begun is completed, a deletion can be done again.
 */
import { describe, expect, it } from 'vitest';
import type { SnapshotSet } from '../../src/layers/snapshots.js';
import { CrashDisk } from '../support/crash-disk.js';
import { attachTo, firstDifference, IMAGE, namesOf, pattern, readAll } from '../support/snapshot-kit.js';

const CHUNK = 4096;
const SECTOR = 512;
/** The last chunk is short. */
const SIZE = 6 * CHUNK + SECTOR;

/** What must hold from an operation of the disk on. */
interface Moment {
  /** Operations recorded when it began to hold. */
  count: number;
  /** Contents the disk may show, sector by sector: the last flushed one, and those since. */
  live: Uint8Array[];
  /** Snapshots that are there, with their contents. */
  snapshots: Map<string, Uint8Array>;
  /** Those that come or go just now: they may be there. */
  loose: Map<string, Uint8Array>;
}

/** Carries out steps and notes what may be found after each. */
class Story {
  readonly moments: Moment[] = [];
  readonly #disk: CrashDisk;
  readonly #set: SnapshotSet;
  #live: Uint8Array[];
  readonly #snapshots = new Map<string, Uint8Array>();

  constructor(disk: CrashDisk, set: SnapshotSet, content: Uint8Array) {
    this.#disk = disk;
    this.#set = set;
    this.#live = [content];
    this.#note();
  }

  get #now(): Uint8Array {
    return this.#live.at(-1) as Uint8Array;
  }

  #note(loose = new Map<string, Uint8Array>(), live = this.#live): void {
    const snapshots = new Map([...this.#snapshots].filter(([name]) => !loose.has(name)));
    this.moments.push({ count: this.#disk.count, live: [...live], snapshots, loose });
  }

  async write(offset: number, length: number, seed: number): Promise<void> {
    const next = this.#now.slice();
    next.set(pattern(length, seed), offset);
    this.#note(undefined, [...this.#live, next]);
    this.#live.push(next);
    await this.#set.volume.write(pattern(length, seed), offset);
    this.#note();
  }

  async zero(offset: number, length: number): Promise<void> {
    const next = this.#now.slice().fill(0, offset, offset + length);
    this.#note(undefined, [...this.#live, next]);
    this.#live.push(next);
    await this.#set.volume.zero(offset, length);
    this.#note();
  }

  async flush(): Promise<void> {
    await this.#set.volume.flush();
    this.#live = [this.#now];
    this.#note();
  }

  async create(name: string): Promise<void> {
    const content = this.#now.slice();
    // Until it is confirmed, it is of what a crash leaves.
    this.#note(new Map([[name, content]]));
    await this.#set.create({ name, kind: 'sparse', chunkSize: CHUNK });
    this.#live = [this.#now];
    this.#snapshots.set(name, content);
    this.#note();
  }

  async restore(name: string): Promise<void> {
    const content = (this.#snapshots.get(name) as Uint8Array).slice();
    this.#note(undefined, [...this.#live, content]);
    await this.#set.restore(name);
    this.#live = [content];
    this.#note();
  }

  async delete(name: string): Promise<void> {
    this.#note(new Map([[name, this.#snapshots.get(name) as Uint8Array]]));
    await this.#set.delete(name);
    this.#snapshots.delete(name);
    this.#note();
  }

  /** What may be found after so many operations. */
  at(count: number): Moment {
    return this.moments.findLast((moment) => moment.count < count) ?? (this.moments[0] as Moment);
  }
}

function isOneOf(actual: Uint8Array, contents: readonly Uint8Array[]): boolean {
  for (let at = 0; at < actual.length; at += SECTOR) {
    const sector = actual.subarray(at, at + SECTOR);
    if (!contents.some((content) => Buffer.compare(content.subarray(at, at + SECTOR), sector) === 0))
      return false;
  }
  return true;
}

async function check(state: Map<string, Uint8Array>, { live, snapshots, loose }: Moment): Promise<void> {
  const { set } = await attachTo(new CrashDisk(state).fileSystem());
  await set.finishRestore();
  const content = await readAll(set.volume);
  expect(isOneOf(content, live), 'the disk').toBe(true);
  const names = namesOf(set);
  for (const [name, expected] of snapshots) {
    expect(names).toContain(name);
    expect([name, firstDifference(await readAll(set.view(name)), expected)]).toEqual([name, -1]);
  }
  for (const name of loose.keys()) {
    const entry = set.store.record.snapshots.find((each) => each.name === name);
    if (!entry) continue;
    if (entry.state === 'intact')
      expect(isOneOf(await readAll(set.view(name)), [...live, ...loose.values()]), name).toBe(true);
    await set.delete(name);
    for (const [other, expected] of snapshots)
      expect([other, firstDifference(await readAll(set.view(other)), expected)]).toEqual([other, -1]);
  }
  expect(isOneOf(await readAll(set.volume), live), 'the disk after a deletion').toBe(true);
  // What there is goes on working: a write keeps what is needed.
  await set.volume.write(pattern(SIZE, 99), 0);
  for (const [name, expected] of snapshots)
    expect([name, firstDifference(await readAll(set.view(name)), expected)]).toEqual([name, -1]);
  await set.close();
}

async function everyInstant(tell: (story: Story) => Promise<void>, every: number): Promise<number> {
  const content = pattern(SIZE, 1);
  const disk = new CrashDisk([[IMAGE, content]]);
  const { set } = await attachTo(disk.fileSystem());
  disk.start();
  const story = new Story(disk, set, content);
  await tell(story);
  await set.close();
  disk.stop();
  let checked = 0;
  for (const { state, label } of disk.states({ every, reorderings: 2 })) {
    const count = Number(/(\d+) of/.exec(label)?.[1] ?? 0);
    try {
      await check(state, story.at(count));
    } catch (error) {
      throw new Error(`${label}: ${error instanceof Error ? error.message : String(error)}`);
    }
    checked += 1;
  }
  return checked;
}

const EVERY = process.env.VHDKIT_SOAK ? 1 : 2;

describe('an image with snapshots, after a crash at any instant', () => {
  it('while it is written to and snapshots are made', async () => {
    const checked = await everyInstant(async (story) => {
      await story.write(SECTOR, 6 * SECTOR, 2);
      await story.create('first');
      await story.write(CHUNK - SECTOR, 2 * SECTOR, 3);
      await story.write(CHUNK, SECTOR, 4);
      await story.create('second');
      await story.zero(3 * CHUNK, CHUNK + SECTOR);
      await story.flush();
      await story.write(0, 2 * CHUNK, 5);
      await story.write(SIZE - SECTOR, SECTOR, 6);
    }, EVERY);
    expect(checked).toBeGreaterThan(50);
  });

  it('while it is put back', async () => {
    await everyInstant(async (story) => {
      await story.create('first');
      await story.write(CHUNK, 3 * CHUNK, 3);
      await story.create('second');
      await story.write(2 * CHUNK, SECTOR, 4);
      await story.write(5 * CHUNK, SECTOR, 5);
      await story.flush();
      await story.restore('first');
      await story.write(CHUNK + SECTOR, SECTOR, 7);
      await story.flush();
    }, EVERY);
  });

  it('while snapshots are deleted', async () => {
    await everyInstant(async (story) => {
      await story.create('first');
      await story.write(0, 2 * CHUNK, 3);
      await story.create('second');
      await story.write(CHUNK, 2 * CHUNK, 4);
      await story.create('third');
      await story.write(0, SECTOR, 5);
      await story.delete('second');
      await story.write(3 * CHUNK, CHUNK, 6);
      await story.delete('third');
      await story.write(4 * CHUNK, CHUNK, 7);
      await story.delete('first');
    }, EVERY);
  });
});
