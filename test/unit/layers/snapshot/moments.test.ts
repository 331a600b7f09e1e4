/**
 * Snapshots and restores of a moment at which writes are under way: what they answer holds from then on.
 */
import { describe, expect, it } from 'vitest';
import type { FileSystem } from '../../../../src/io/file-system.js';
import type { RandomAccessFile } from '../../../../src/io/random-access-file.js';
import { CrashDisk } from '../../../support/crash-disk.js';
import { overriding } from '../../../support/overriding.js';
import { attachTo, FOLDER, IMAGE, pattern, readAll } from '../../../support/snapshot-kit.js';

const CHUNK = 4096;
const START = pattern(8 * CHUNK, 1);
const SETTLED = `${FOLDER}/restore.settled`;

/** Holds up writes to a file, and notes what is closed while something is under way on it. */
class GatedDisk {
  readonly #disk = new CrashDisk([[IMAGE, START]]);
  readonly #held = new Map<string, Promise<void>>();
  readonly #underWay = new Map<string, number>();
  readonly closedTooEarly: string[] = [];
  readonly #arrived = new Map<string, number>();

  /** Writes that have come as far as a file. */
  arrived(path: string): number {
    return this.#arrived.get(path) ?? 0;
  }

  /** Answers what lets writes to the file go on. */
  hold(path: string): () => void {
    let release = (): void => undefined;
    this.#held.set(path, new Promise((resolve) => (release = resolve)));
    return () => {
      this.#held.delete(path);
      release();
    };
  }

  fileSystem(): FileSystem {
    const inner = this.#disk.fileSystem();
    return {
      ...inner,
      open: async (path, options) => this.#gated(path, await inner.open(path, options)),
    };
  }

  #gated(path: string, file: RandomAccessFile): RandomAccessFile {
    const count = (change: number): number => {
      const now = (this.#underWay.get(path) ?? 0) + change;
      this.#underWay.set(path, now);
      return now;
    };
    const write = async (bytes: Uint8Array, offset: number): Promise<void> => {
      count(1);
      this.#arrived.set(path, this.arrived(path) + 1);
      await this.#held.get(path);
      await file.write(bytes, offset).finally(() => count(-1));
    };
    const close = async (): Promise<void> => {
      if (count(0) > 0) this.closedTooEarly.push(path);
      await file.close();
    };
    return overriding(file, { write, close });
  }

  /** Waits for something that other work brings about. */
  async until(isSo: () => boolean): Promise<void> {
    for (let turns = 0; turns < 1000 && !isSo(); turns += 1) await this.turns(1);
    expect(isSo()).toBe(true);
  }

  async turns(count: number): Promise<void> {
    for (; count > 0; count -= 1) await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('snapshots of a disk with writes under way', () => {
  it.each(['for the first time', 'where nothing has to be kept'])(
    'are made when what had begun before has ended, so that they never show anything else: %s',
    async (when) => {
      const storage = new GatedDisk();
      const { set } = await attachTo(storage.fileSystem());
      const options = { kind: 'sparse', chunkSize: CHUNK };
      if (when === 'for the first time') await set.create({ name: 'older', ...options });
      const release = storage.hold(IMAGE);
      const bytes = pattern(100, 2);
      const early = set.volume.write(bytes, 5000);
      await storage.until(() => storage.arrived(IMAGE) === 1);
      let isMade = false;
      const made = set.create({ name: 'new', ...options }).then(() => {
        isMade = true;
      });
      await storage.until(() => set.volume.catalogue.layers.at(-1)?.name === 'new');
      await storage.turns(50);
      expect(isMade).toBe(false);
      expect(() => set.view('new')).toThrow(/still being made/);
      // Nobody else waits: a later write elsewhere gets as far as the file.
      const late = set.volume.write(bytes, 6 * CHUNK);
      await storage.until(() => storage.arrived(IMAGE) === 2);
      release();
      await Promise.all([made, early, late]);
      const expected = Uint8Array.from(START);
      expected.set(bytes, 5000);
      expect(await readAll(set.view('new'))).toEqual(expected);
      await set.close();
    },
  );

  it('a restore ends when writes that had begun amid it have settled their chunks', async () => {
    const storage = new GatedDisk();
    const { set } = await attachTo(storage.fileSystem());
    await set.create({ name: 'old', kind: 'sparse', chunkSize: CHUNK });
    await set.volume.write(pattern(100, 2), 0);
    const release = storage.hold(SETTLED);
    const restored = set.restore('old');
    await storage.until(() => storage.arrived(SETTLED) === 1);
    // The first goes with the sweep's, or after it; the other one comes when the sweep has nothing left to do.
    const bytes = pattern(100, 3);
    const write = set.volume.write(bytes, 5 * CHUNK);
    await storage.turns(20);
    release();
    const releaseLast = storage.hold(SETTLED);
    await storage.turns(200);
    releaseLast();
    await Promise.all([restored, write]);
    expect(storage.closedTooEarly).toEqual([]);
    const expected = Uint8Array.from(START);
    expected.set(bytes, 5 * CHUNK);
    expect(await readAll(set.volume)).toEqual(expected);
    expect(await readAll(set.view('old'))).toEqual(START);
    await set.close();
  });
});
