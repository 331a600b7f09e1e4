/**
 * Two volumes over one base: what each shows, under concurrent use from before the moment they part, judged by
 * a model checker.
 */
import { describe, expect, it } from 'vitest';
import { VhdkitError } from '../../../../src/base/errors.js';
import { RangeLock } from '../../../../src/base/range-lock.js';
import type { BlockDevice } from '../../../../src/block/block-device.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { LookupTable } from '../../../../src/layers/two-volumes/lookup-table.js';
import { type CopyOnWriteImage, VolumePair } from '../../../../src/layers/two-volumes/volume-pair.js';
import { FrontVolume, PreservedVolume } from '../../../../src/layers/two-volumes/volumes.js';
import { FileDevice } from '../../../support/file-device.js';
import { illegalSectors, isLegal, type Recorded } from '../../../support/two-volume-history.js';

const SECTOR = 512;
const BLOCK = 4096;
const SECTORS = 20;
/** Two blocks and a half. */
const SIZE = SECTORS * SECTOR;
const INITIAL = 1;

function numbers(seed: number): (below: number) => number {
  let state = (seed * 2654435761) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

function filled(sectors: number, value: number): Uint8Array {
  return new Uint8Array(new Uint32Array((sectors * SECTOR) / 4).fill(value).buffer);
}

/** The value of each sector; a torn one is a value that nobody wrote. */
function valuesOf(bytes: Uint8Array): number[] {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  return Array.from({ length: bytes.length / SECTOR }, (_, index) => {
    const part = words.subarray((index * SECTOR) / 4, ((index + 1) * SECTOR) / 4);
    return part.every((word) => word === part[0]) ? (part[0] as number) : -1;
  });
}

async function copyImage(extra: Partial<CopyOnWriteImage> = {}): Promise<CopyOnWriteImage> {
  const table = await LookupTable.create(new MemoryFile(), { size: SIZE, blockSize: BLOCK });
  return { data: new MemoryFile(), table, ...extra };
}

interface Volumes {
  pair: VolumePair;
  front: BlockDevice;
  preserved: BlockDevice;
}

function volumes(pause?: () => Promise<void>): Volumes {
  const pair = new VolumePair(new FileDevice(new MemoryFile(filled(SECTORS, INITIAL)), SIZE, pause));
  return { pair, front: new FrontVolume(pair), preserved: new PreservedVolume(pair, 'before') };
}

async function contentOf(device: BlockDevice): Promise<number[]> {
  const buffer = new Uint8Array(SIZE);
  await device.read(buffer, 0);
  return valuesOf(buffer);
}

/** One random history. `tamper` may break the pair. Answers the sectors that show what they must not. */
async function run(seed: number, tamper?: (pair: VolumePair) => void): Promise<number[]> {
  const random = numbers(seed);
  const pause = async (): Promise<void> => {
    for (let turns = random(4); turns > 0; turns -= 1) await Promise.resolve();
  };
  const { pair, front, preserved } = volumes(pause);
  tamper?.(pair);
  const copies = await copyImage();
  const history: Recorded[] = [];
  let time = 0;
  let nextValue = INITIAL;
  let parted = false;
  const fromBefore: Recorded[] = [];
  const request = async (device: BlockDevice, side: 'live' | 'preserved'): Promise<void> => {
    const sector = random(SECTORS);
    const count = 1 + random(Math.min(10, SECTORS - sector));
    // Whole blocks now and then: those take entries away.
    const whole = random(3) === 0 ? Math.floor(sector / 8) * 8 : undefined;
    const [first, length] = whole === undefined ? [sector, count] : [whole, Math.min(8, SECTORS - whole)];
    const start = ++time;
    if (random(2) === 0) {
      const buffer = new Uint8Array(length * SECTOR);
      await device.read(buffer, first * SECTOR);
      const volume = device === front ? 'live' : 'preserved';
      history.push({ kind: 'read', volume, sector: first, values: valuesOf(buffer), start, end: ++time });
      return;
    }
    const zero = random(6) === 0;
    nextValue += 1;
    const value = zero ? 0 : nextValue;
    if (zero) await device.zero(first * SECTOR, length * SECTOR);
    else await device.write(filled(length, value), first * SECTOR);
    const values = Array.from({ length }, () => value);
    const written: Recorded = { kind: 'write', volume: side, sector: first, values, start, end: ++time };
    history.push(written);
    if (device === front && side === 'preserved') fromBefore.push(written);
  };
  const client = async (requests: number): Promise<void> => {
    for (let i = 0; i < requests; i += 1) {
      if (parted && random(3) === 0) await request(preserved, 'preserved');
      // Which volume a front request is of is settled when it arrives.
      else await request(front, parted ? 'live' : 'preserved');
      await pause();
    }
  };
  let made = Number.POSITIVE_INFINITY;
  const part = async (): Promise<void> => {
    for (let turns = random(60); turns > 0; turns -= 1) await Promise.resolve();
    pair.split(copies);
    parted = true;
    await pair.earlierWrites();
    made = ++time;
  };
  await Promise.all([client(7), client(7), client(7), part()]);
  // What came through the front door before they parted must not show later than the volume counts as made.
  for (const early of fromBefore) early.end = Math.min(early.end, made);
  for (const device of [front, preserved]) {
    const volume = device === front ? 'live' : 'preserved';
    history.push({
      kind: 'read',
      volume,
      sector: 0,
      values: await contentOf(device),
      start: ++time,
      end: ++time,
    });
  }
  expect(pair.locks.size).toBe(0);
  return illegalSectors(history, SECTORS, INITIAL);
}

describe('the model checker', () => {
  const write = (volume: 'live' | 'preserved', value: number, start: number, end: number) =>
    ({ kind: 'write', volume, value, start, end }) as const;
  const read = (volume: 'live' | 'preserved', value: number, start: number, end: number) =>
    ({ kind: 'read', volume, value, start, end }) as const;

  it('accepts what can be explained', () => {
    expect(isLegal([write('live', 5, 1, 2), read('preserved', 0, 3, 4), read('live', 5, 3, 4)], 0)).toBe(
      true,
    );
    expect(isLegal([write('preserved', 5, 1, 9), write('live', 6, 2, 3), read('live', 6, 10, 11)], 0)).toBe(
      true,
    );
    expect(isLegal([write('preserved', 5, 1, 9), write('live', 6, 2, 3), read('live', 5, 10, 11)], 0)).toBe(
      true,
    );
    expect(isLegal([write('live', 5, 1, Number.POSITIVE_INFINITY), read('live', 0, 2, 3)], 0)).toBe(true);
  });

  it('rejects what can not', () => {
    expect(isLegal([write('live', 5, 1, 2), read('preserved', 5, 3, 4)], 0)).toBe(false);
    expect(isLegal([write('preserved', 5, 1, 2), read('preserved', 0, 3, 4)], 0)).toBe(false);
    expect(isLegal([write('live', 5, 1, 2), read('live', 0, 3, 4)], 0)).toBe(false);
    expect(
      isLegal([write('live', 5, 1, 9), read('live', 5, 2, 3), read('live', 0, 4, 5)], 0),
      'new, then old again',
    ).toBe(false);
  });
});

describe('two volumes', () => {
  it('show what they may, whatever runs into what', { timeout: 60_000 }, async () => {
    for (let seed = 1; seed <= 1500; seed += 1) expect(await run(seed), `seed ${seed}`).toEqual([]);
  });

  it.each<[string, (pair: VolumePair) => void]>([
    [
      'locks that keep nobody out',
      (pair) => {
        const free = { size: 0, isFree: () => true, take: async () => () => undefined };
        Object.assign(pair, { locks: free as unknown as RangeLock });
      },
    ],
    [
      'locks that everybody shares',
      (pair) => {
        class Shared extends RangeLock {
          override take(offset: number, length: number): Promise<() => void> {
            return super.take(offset, length, 'shared');
          }
        }
        Object.assign(pair, { locks: new Shared() });
      },
    ],
    [
      'a moment that is called over while they still write who came before it',
      (pair) => Object.assign(pair, { earlierWrites: async () => undefined }),
    ],
  ])('are caught with %s', { timeout: 60_000 }, async (_, tamper) => {
    for (let seed = 1; seed <= 1500; seed += 1) if ((await run(seed, tamper)).length > 0) return;
    expect.unreachable('the checker saw nothing');
  });

  it('part without waiting for what is under way, which belongs to the preserved one', async () => {
    let resume = (): void => undefined;
    const blocked = new Promise<void>((resolve) => {
      resume = resolve;
    });
    let pauses = 0;
    const { pair, front, preserved } = volumes(async () => {
      pauses += 1;
      if (pauses === 2) await blocked;
    });
    // Stuck after its first sector.
    const early = front.write(filled(2, 7), 0);
    while (pauses < 2) await Promise.resolve();
    pair.split(await copyImage());
    // Elsewhere nothing waits.
    await front.write(filled(8, 9), BLOCK);
    expect(
      (await contentOf(preserved).then((values) => values.slice(8, 16))).every((v) => v === INITIAL),
    ).toBe(true);
    // The same block: after the early one.
    const late = front.write(filled(1, 8), 0);
    resume();
    await Promise.all([early, late]);
    expect((await contentOf(preserved)).slice(0, 3)).toEqual([7, 7, INITIAL]);
    expect((await contentOf(front)).slice(0, 3)).toEqual([8, 7, INITIAL]);
  });

  it('lose the entry of a block that the preserved one overwrites, and only of a whole one', async () => {
    const { pair, front, preserved } = volumes();
    const copies = await copyImage();
    pair.split(copies);
    await front.write(filled(1, 5), 0);
    expect(copies.table.count).toBe(1);
    await preserved.write(filled(1, 6), SECTOR);
    expect(copies.table.count).toBe(1);
    expect((await contentOf(preserved)).slice(0, 3)).toEqual([INITIAL, 6, INITIAL]);
    expect((await contentOf(front)).slice(0, 3)).toEqual([5, 6, INITIAL]);
    await preserved.write(filled(8, 7), 0);
    expect(copies.table.count).toBe(0);
    expect(await contentOf(preserved)).toEqual(await contentOf(front));
    // The last block is shorter, and whole all the same.
    await front.write(filled(1, 5), 16 * SECTOR);
    await preserved.write(filled(4, 9), 16 * SECTOR);
    expect(copies.table.count).toBe(0);
  });

  it.each([
    { onFailure: 'fail-writes', wrote: false },
    { onFailure: 'break-snapshot', wrote: true },
  ] as const)('never show wrong data when there is no room for copies ($onFailure)', async (policy) => {
    const { pair, front, preserved } = volumes();
    const full = new VhdkitError('NO_SPACE', 'full');
    const copies = await copyImage({ onFailure: policy.onFailure });
    copies.data.write = async () => {
      throw full;
    };
    pair.split(copies);
    const write = front.write(filled(1, 5), 0);
    if (policy.wrote) {
      await write;
      await expect(preserved.read(new Uint8Array(SECTOR), 0)).rejects.toMatchObject({ code: 'IO_FAILED' });
      await expect(preserved.write(filled(1, 5), 0)).rejects.toMatchObject({ code: 'IO_FAILED' });
    } else {
      await expect(write).rejects.toBe(full);
      expect((await contentOf(preserved))[0]).toBe(INITIAL);
    }
    expect((await contentOf(front))[0]).toBe(policy.wrote ? 5 : INITIAL);
  });

  it('let a flush of the live one end that meets the end of the preserved one', async () => {
    const { pair, front } = volumes();
    const copies = await copyImage();
    let closed = false;
    copies.data.flush = async () => {
      for (let turns = 0; turns < 20; turns += 1) await Promise.resolve();
      if (closed) throw new VhdkitError('IO_FAILED', 'closed');
    };
    pair.split(copies);
    const flush = front.flush();
    await pair.join();
    closed = true;
    await flush;
  });

  it('become one again, and can part anew', async () => {
    const { pair, front, preserved } = volumes();
    pair.split(await copyImage());
    expect(() => pair.split({} as CopyOnWriteImage)).toThrow('already');
    await front.write(filled(1, 5), 0);
    expect(await pair.join()).toBeDefined();
    await expect(contentOf(preserved)).rejects.toMatchObject({ code: 'IO_FAILED' });
    await expect(preserved.write(filled(1, 5), 0)).rejects.toMatchObject({ code: 'IO_FAILED' });
    pair.split(await copyImage());
    await front.write(filled(1, 6), 0);
    expect((await contentOf(preserved))[0]).toBe(5);
    await front.close();
  });

  it('say where the preserved one has its bytes', async () => {
    const { pair, front, preserved } = volumes();
    pair.split(await copyImage());
    await front.zero(BLOCK, BLOCK);
    const runs = await preserved.extents(0, SIZE);
    expect(runs.every(({ zero }) => !zero)).toBe(true);
    expect(runs[0]?.offset).toBe(0);
    expect((await contentOf(preserved)).every((value) => value === INITIAL)).toBe(true);
  });

  it('refuse copies that were made for another disk', async () => {
    const { pair } = volumes();
    const table = await LookupTable.create(new MemoryFile(), { size: SIZE + BLOCK, blockSize: BLOCK });
    expect(() => pair.split({ data: new MemoryFile(), table })).toThrow('not one of');
  });
});
