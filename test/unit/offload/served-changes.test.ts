/**
 * Tokens of a file that stays open for long and is written to all the time: against a model of a file system whose
 * clock ticks slowly. Whatever happens when, and whenever the process is killed: no token is alive over bytes that
 * changed since it was bound. And what was not touched lives on as soon as nobody writes.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { MemoryFile } from '../../../src/io/memory-file.js';
import type { FileFingerprint, RandomAccessFile } from '../../../src/io/random-access-file.js';
import { OwnChanges } from '../../../src/offload/own-changes.js';
import { MemoryTokenStore } from '../../../src/offload/store/memory-store.js';
import type { TokenRecord } from '../../../src/offload/store/token-store.js';
import { sameContent } from '../../../src/offload/token-fingerprint.js';
import { overriding } from '../../support/overriding.js';
import { SteppedTimer } from '../../support/stepped-timer.js';

const BLOCK = 4096;
const BLOCKS = 16;
/** Nobody but foreigners writes to the last one: its token keeps the file followed. */
const OWN_BLOCKS = BLOCKS - 1;
/** Long enough for all to be settled, whatever the file system. */
const LONG = 4000;

interface Clock {
  /** Milliseconds between two times that the file system tells apart. */
  tick: number;
  /** Nanoseconds that are added to all times. */
  offset: bigint;
}
const KERNEL: Clock = { tick: 10, offset: 1_234_567n };
const COARSE: Clock = { tick: 2000, offset: 0n };

interface Bound {
  id: string;
  first: number;
  count: number;
  /** What the blocks were. */
  versions: number[];
  /** Nothing was to be settled then. */
  settled: boolean;
  /** Nobody else has changed the file since. */
  undisturbed: boolean;
}

class World {
  readonly timer = new SteppedTimer();
  readonly store = new MemoryTokenStore();
  readonly own: OwnChanges;
  readonly #clock: Clock;
  readonly #versions: number[] = new Array(BLOCKS).fill(0);
  readonly #tokens: Bound[] = [];
  readonly #underWay: { block: number; end: () => void }[] = [];
  #changedAt = 0;
  #ownAt = Number.NEGATIVE_INFINITY;
  #disturbed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.timer.time = 100_000;
    const { store } = this;
    this.own = new OwnChanges(this.#file(), {
      system: undefined,
      openStore: async () => ({ store, close: async () => undefined }),
      timer: this.timer,
    });
  }

  print(): FileFingerprint {
    const { tick, offset } = this.#clock;
    const time = BigInt(Math.floor(this.#changedAt / tick) * tick) * 1_000_000n + offset;
    return { device: 1n, inode: 7n, size: BigInt(BLOCKS * BLOCK), mtime: time, ctime: time };
  }

  #file(): RandomAccessFile {
    const memory = new MemoryFile(new Uint8Array(BLOCKS * BLOCK));
    return overriding<RandomAccessFile>(memory, {
      fingerprint: () => this.print(),
      write: async (_, at) => this.#change(at / BLOCK),
    });
  }

  #change(block: number): void {
    this.#versions[block] = (this.#versions[block] ?? 0) + 1;
    this.#changedAt = this.timer.time;
  }

  async write(block: number): Promise<void> {
    this.#ownAt = this.timer.time;
    await this.own.file.write(new Uint8Array(BLOCK), block * BLOCK);
  }

  begin(block: number): void {
    this.#ownAt = this.timer.time;
    this.#underWay.push({ block, end: this.own.begin(block * BLOCK, BLOCK) });
  }

  end(): void {
    const one = this.#underWay.shift();
    if (!one) return;
    this.#ownAt = this.timer.time;
    this.#change(one.block);
    one.end();
  }

  async wait(milliseconds: number): Promise<void> {
    for (let left = milliseconds; left > 0; ) {
      // Whoever wakes up may fall asleep again, and more than once.
      const step = Math.min(50, Math.ceil(left / 2));
      await this.timer.advance(step);
      left -= step;
    }
  }

  /** Somebody without manners, but not amid our own changes and not in the tick of one: that can't be seen. */
  async foreign(block: number): Promise<void> {
    if (this.#underWay.length > 0) return;
    const since = this.timer.time - this.#ownAt;
    if (since < 150) await this.wait(150 - since);
    await this.#nextTick();
    this.#change(block);
    this.#disturbed = true;
    for (const token of this.#tokens) token.undisturbed = false;
    await this.wait(this.#clock.tick);
  }

  /** When another change shows. */
  async #nextTick(): Promise<void> {
    const { tick } = this.#clock;
    await this.wait(Math.max(0, (Math.floor(this.#changedAt / tick) + 1) * tick - this.timer.time));
  }

  /** Not in the tick of a change: nobody could see another one in it. */
  async bind(first: number, wanted: number, when: 'now' | 'later' = 'later'): Promise<void> {
    if (when === 'later') await this.#nextTick();
    const count = Math.min(wanted, BLOCKS - first);
    const id = this.#tokens.length.toString(16).padStart(16, '0');
    const record: TokenRecord = {
      ...{ id, random: '00', mode: 'change-vulnerable', path: '/a.img', revoked: false },
      ...{ offset: first * BLOCK, length: count * BLOCK, ttl: 1e9, created: 0, lastUsed: 0 },
      fingerprint: this.print(),
    };
    await this.store.put(record);
    const settled = this.#underWay.length === 0 && this.timer.time - this.#ownAt >= LONG;
    const versions = this.#versions.slice(first, first + count);
    this.#tokens.push({ id, first, count, versions, settled, undisturbed: !this.#disturbed });
  }

  async #isAlive(id: string): Promise<boolean> {
    const print = (await this.store.get(id))?.record.fingerprint;
    return print !== undefined && sameContent(print, this.print());
  }

  #isTouched({ first, count, versions }: Bound): boolean {
    return this.#versions.slice(first, first + count).some((version, index) => version !== versions[index]);
  }

  /** What must be true at every moment: somebody may kill us now. */
  async assertSound(): Promise<void> {
    for (const token of this.#tokens)
      if (this.#isTouched(token))
        expect(await this.#isAlive(token.id), 'alive over changed bytes').toBe(false);
  }

  /** Answers how many of the tokens live. */
  async assertExact(): Promise<number> {
    while (this.#underWay.length > 0) this.end();
    await this.wait(LONG);
    await this.assertSound();
    let alive = 0;
    for (const token of this.#tokens) {
      if (!token.settled || !token.undisturbed || this.#isTouched(token)) continue;
      expect(await this.#isAlive(token.id), 'dead although nothing happened to it').toBe(true);
      alive += 1;
    }
    return alive;
  }
}

type Step = (world: World) => Promise<void> | void;
const ownBlock = fc.nat(OWN_BLOCKS - 1);
const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: ownBlock.map(
        (block): Step =>
          (world) =>
            world.write(block),
      ),
    },
    {
      weight: 2,
      arbitrary: ownBlock.map(
        (block): Step =>
          (world) =>
            world.begin(block),
      ),
    },
    { weight: 2, arbitrary: fc.constant<Step>((world) => world.end()) },
    {
      weight: 6,
      arbitrary: fc.constantFrom(1, 4, 9, 11, 49, 60, 110, LONG).map(
        (ms): Step =>
          (world) =>
            world.wait(ms),
      ),
    },
    {
      weight: 3,
      arbitrary: fc.tuple(fc.nat(BLOCKS - 1), fc.integer({ min: 1, max: 4 })).map(
        ([first, count]): Step =>
          (world) =>
            world.bind(first, count),
      ),
    },
    {
      weight: 1,
      arbitrary: fc.nat(BLOCKS - 1).map(
        (block): Step =>
          (world) =>
            world.foreign(block),
      ),
    },
  ),
  { minLength: 4, maxLength: 30 },
);

it.each([
  ['ticks like a kernel', KERNEL, 120],
  ['knows even seconds only', COARSE, 40],
] as const)('on a file system that %s', async (_, clock, numRuns) => {
  let alive = 0;
  await fc.assert(
    fc.asyncProperty(steps, async (todo) => {
      const world = new World(clock);
      await world.bind(OWN_BLOCKS, 1);
      await world.bind(0, 2);
      await world.bind(5, 5);
      for (const step of todo) {
        await step(world);
        await world.assertSound();
      }
      alive += await world.assertExact();
      await world.own.file.close();
      await world.assertSound();
    }),
    { numRuns, endOnFailure: true },
  );
  // It was not for want of tokens.
  expect(alive).toBeGreaterThan(numRuns);
});

it('ends what was bound between two changes of one tick', async () => {
  const world = new World(KERNEL);
  await world.bind(OWN_BLOCKS, 1);
  await world.write(3);
  await world.bind(3, 1, 'now');
  await world.write(3);
  await world.wait(LONG);
  await world.assertSound();
});

it('follows no longer than there is something to follow', async () => {
  const world = new World(KERNEL);
  await world.bind(3, 1);
  await world.write(3);
  await world.wait(LONG);
  const { own } = world;
  expect(own.begin(0, 1)).toBe(own.begin(8, 1));
  let asked = 0;
  const file = new MemoryFile(new Uint8Array(BLOCK));
  const unchanged = new OwnChanges(file, {
    system: undefined,
    openStore: async () => {
      asked += 1;
      return undefined;
    },
    timer: world.timer,
  });
  await unchanged.file.close();
  expect(asked).toBe(0);
});
