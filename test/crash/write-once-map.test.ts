/**
 * The map of a sparse write-once device whose machine stops at any instant, twice if it must be: pages that are torn, bits
 * that nobody has confirmed. What was told as written stays so, and the map can always be read.
 */
import { describe, expect, it } from 'vitest';
import { localClaims } from '../../src/io/claims.js';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';
import { SoundFile } from '../../src/layers/write-once/sound-file.js';
import { CHUNKS_PER_PAGE, layoutOf, PAGE_BYTES } from '../../src/layers/write-once/sparse/layout.js';
import { emptyBits, encodePage } from '../../src/layers/write-once/sparse/map-page.js';
import { PresenceMap } from '../../src/layers/write-once/sparse/presence-map.js';
import { SealQueue } from '../../src/layers/write-once/sparse/seal-queue.js';
import { CrashDisk, type CrashState, type Instant } from '../support/crash-disk.js';

const NAME = 'map';
const pause = async (): Promise<void> => undefined;
/** Two pages of map; the data behind is not looked at, and not there. */
const layout = layoutOf(
  { size: 50_000 * 4096, chunkSize: 4096, primaryId: 'primary' },
  new Uint8Array(16).fill(7),
);

/** Their bits lie in several sectors of both pages, so that a page can be torn. */
const FIRST = [3, 5_000];
const SECOND = [20_000, CHUNKS_PER_PAGE + 9_000];
const LAST = [32_000, 8_000, CHUNKS_PER_PAGE + 1];
const ALL = [...FIRST, ...SECOND, ...LAST];

interface Opened {
  map: PresenceMap;
  queue: SealQueue;
}

/** What a process does that is killed after `left` writes and flushes: nothing any more. */
function mortal(file: RandomAccessFile, left: number, died: () => void): RandomAccessFile {
  const never = new Promise<void>(() => undefined);
  let count = left;
  return new Proxy(file, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      if (name !== 'write' && name !== 'flush') return value.bind(target);
      return (...args: unknown[]) => {
        count -= 1;
        if (count < 0) died();
        return count < 0 ? never : (value.apply(target, args) as Promise<void>);
      };
    },
  });
}

async function open(
  disk: CrashDisk,
  { writable = true, life = Number.POSITIVE_INFINITY, died = () => {} } = {},
): Promise<Opened> {
  const file = new SoundFile(mortal(await disk.fileSystem().open(NAME, { writable }), life, died));
  const map = new PresenceMap(file, layout, writable ? localClaims(NAME) : undefined, pause);
  return { map, queue: new SealQueue(file, map, pause) };
}

function newDisk(): CrashDisk {
  const bytes = new Uint8Array(layout.confirmedOffset + layout.pages * PAGE_BYTES);
  for (const offset of [layout.mapOffset, layout.confirmedOffset])
    for (let page = 0; page < layout.pages; page += 1)
      bytes.set(encodePage(layout, page, emptyBits()), offset + page * PAGE_BYTES);
  return new CrashDisk([[NAME, bytes]]);
}

function instantOf({ label }: Instant): number {
  return Number(/(?:after|operation) (\d+)/.exec(label)?.[1] ?? 0);
}

/** Chunks that had been told as written, by the number of operations before. */
type Told = Map<number, number>;

function toldBy(told: Told, instant: Instant): number[] {
  return [...told].flatMap(([chunk, count]) => (count <= instantOf(instant) ? [chunk] : []));
}

/** Asks for everything; answers what is written. */
async function lookAt(state: CrashState, needed: readonly number[], label: string): Promise<number[]> {
  const answers = [];
  for (const writable of [false, true]) {
    const { map } = await open(new CrashDisk(state), { writable });
    const written = [];
    for (const chunk of ALL) if (await map.has(chunk)) written.push(chunk);
    for (const chunk of needed) expect(written, label).toContain(chunk);
    expect(await map.has(777), label).toBe(false);
    answers.push(written);
  }
  return answers[1] ?? [];
}

async function expectKept(disk: CrashDisk, told: Told, label: string): Promise<void> {
  for (const later of disk.states({ reorderings: 3 })) {
    const { map } = await open(new CrashDisk(later.state));
    for (const chunk of toldBy(told, later))
      expect(await map.has(chunk), `${label}; then ${later.label}`).toBe(true);
  }
}

describe('the map of a sparse write-once device', () => {
  it('survives a stop at any instant, and another one while it is put right', async () => {
    const disk = newDisk();
    disk.start();
    const { queue } = await open(disk);
    const told: Told = new Map();
    const seal = async (chunk: number): Promise<void> => {
      await queue.seal(chunk);
      told.set(chunk, disk.count);
    };
    await Promise.all(FIRST.map(seal));
    const second = SECOND.map(seal);
    // While those are between their flushes.
    await Promise.resolve();
    await Promise.all([...second, ...LAST.map(seal)]);
    expect(told.size).toBe(ALL.length);

    let torn = 0;
    for (const instant of disk.states({ reorderings: 6 })) {
      const needed = toldBy(told, instant);
      await lookAt(instant.state, needed, instant.label);
      const again = new CrashDisk(instant.state);
      again.start();
      const { map, queue: next } = await open(again);
      const second: Told = new Map(needed.map((chunk) => [chunk, 0]));
      for (const chunk of ALL) if (await map.has(chunk)) second.set(chunk, again.count);
      if (again.count > 0) torn += 1;
      await next.seal(12_345);
      second.set(12_345, again.count);
      await expectKept(again, second, instant.label);
      // The same by somebody who writes before looking.
      const blind = new CrashDisk(instant.state);
      blind.start();
      await (await open(blind)).queue.seal(12_345);
      await expectKept(blind, new Map(needed.map((chunk) => [chunk, 0])), instant.label);
    }
    expect(torn).toBeGreaterThan(5);
  });

  it('survives that a process is killed, and later the machine stops', async () => {
    for (let life = 1; life < 24; life += 1) {
      const disk = newDisk();
      disk.start();
      const told: Told = new Map();
      let died = (): void => undefined;
      const death = new Promise<void>((resolve) => {
        died = resolve;
      });
      const { queue } = await open(disk, { life, died });
      const first = (async () => {
        for (const chunk of ALL) {
          await queue.seal(chunk);
          told.set(chunk, disk.count);
        }
      })();
      await Promise.race([first, death]);
      const { map, queue: next } = await open(disk);
      for (const chunk of ALL) if (await map.has(chunk)) told.set(chunk, told.get(chunk) ?? disk.count);
      await next.seal(12_345);
      told.set(12_345, disk.count);
      await expectKept(disk, told, `killed after ${life}`);
    }
  });
});
