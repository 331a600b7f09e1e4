/**
 * Write-once devices whose machine stops at any instant: afterwards each chunk is unwritten or whole, nothing that was
 * sealed is lost, and the rest can still be written.
 */
import { describe, expect, it } from 'vitest';
import type { WriteOnceDevice } from '../../src/block/write-once-device.js';
import { createWriteOnce, openWriteOnce } from '../../src/layers/write-once/open.js';
import {
  begun,
  expectChunk,
  filled,
  PRIMARY,
  put,
  readChunk,
  writeChunk,
  writtenOf,
} from '../conformance/write-once.suite.js';
import { CrashDisk, type CrashState, type Instant } from '../support/crash-disk.js';

type Kind = Parameters<typeof createWriteOnce>[0];

interface Case {
  kind: Kind;
  chunkSize: number;
  every: number;
}

const CHUNKS = 6;
const TAIL = 512;
const NAME = 'device';

function lengthOf(device: WriteOnceDevice, chunk: number): number {
  return Math.min(device.chunkSize, device.size - chunk * device.chunkSize);
}

/** Chunks by the number of operations after which they had been sealed. */
type Sealed = Map<number, number>;

async function work(disk: CrashDisk): Promise<Sealed> {
  const device = await openWriteOnce(NAME, { fileSystem: disk.fileSystem() });
  const sealed: Sealed = new Map();
  const write = async (chunk: number): Promise<void> => {
    expect(await writeChunk(device, chunk)).toBe('written');
    sealed.set(chunk, disk.count);
  };
  await write(4);
  const writes = [];
  for (const chunk of [1, 0]) {
    const begin = await begun(device, chunk);
    await put(begin, filled(begin.place.length, chunk));
    writes.push(begin);
  }
  expect(await device.sealAll(writes)).toEqual(['written', 'written']);
  for (const chunk of [1, 0]) sealed.set(chunk, disk.count);
  const given = await begun(device, 2);
  await put(given, filled(given.place.length, 2, 9));
  await given.abandon();
  // At the same time, so that one is between its flushes while the other begins.
  await Promise.all([write(6), write(2)]);
  await device.close();
  return sealed;
}

function instantOf({ label }: Instant): number {
  return Number(/(?:after|operation) (\d+)/.exec(label)?.[1] ?? 0);
}

async function examine(state: CrashState, needed: readonly number[], label: string): Promise<void> {
  const disk = new CrashDisk(state);
  const fileSystem = disk.fileSystem();
  for (const writable of [false, true]) {
    const device = await openWriteOnce(NAME, { fileSystem, writable, primaryId: PRIMARY });
    const written = await writtenOf(device);
    for (const chunk of needed) expect(written, label).toContain(chunk);
    for (let chunk = 0; chunk <= CHUNKS; chunk += 1) {
      const bytes = await readChunk(device, chunk);
      expect(bytes !== undefined, label).toBe(written.includes(chunk));
      if (bytes) expectChunk(bytes, filled(lengthOf(device, chunk), chunk), label);
    }
    if (writable) {
      for (let chunk = 0; chunk <= CHUNKS; chunk += 1)
        expect(await writeChunk(device, chunk), label).toBe(written.includes(chunk) ? 'lost' : 'written');
    }
    await device.close();
  }
  const device = await openWriteOnce(NAME, { fileSystem, writable: false });
  for (let chunk = 0; chunk <= CHUNKS; chunk += 1)
    expectChunk(await readChunk(device, chunk), filled(lengthOf(device, chunk), chunk), label);
  await device.close();
}

async function emptyDevice({ kind, chunkSize }: Case): Promise<CrashDisk> {
  const disk = new CrashDisk();
  const size = CHUNKS * chunkSize + TAIL;
  await createWriteOnce(kind, NAME, {
    size,
    chunkSize,
    primaryId: PRIMARY,
    fileSystem: disk.fileSystem(),
  });
  return disk;
}

const CASES: readonly Case[] = [
  { kind: 'sparse', chunkSize: 4096, every: 1 },
  { kind: 'vhd', chunkSize: 4096, every: 1 },
  { kind: 'vhdx', chunkSize: 1024 * 1024, every: 7 },
];

describe.each(CASES)('a $kind write-once device after a crash', (each) => {
  it('has every sealed chunk, and no half of any', async () => {
    const disk = await emptyDevice(each);
    disk.start();
    const sealed = await work(disk);
    disk.stop();
    let states = 0;
    for (const instant of disk.states({ reorderings: 3, every: each.every })) {
      const at = instantOf(instant);
      const needed = [...sealed].flatMap(([chunk, count]) => (count <= at ? [chunk] : []));
      await examine(instant.state, needed, instant.label);
      states += 1;
    }
    expect(states).toBeGreaterThan(20);
    expect([...sealed.keys()].sort()).toEqual([0, 1, 2, 4, 6]);
  });

  it('is made whole or not at all', async () => {
    const disk = new CrashDisk();
    disk.start();
    const { kind, chunkSize } = each;
    const size = CHUNKS * chunkSize + TAIL;
    const options = { size, chunkSize, primaryId: PRIMARY, fileSystem: disk.fileSystem() };
    await createWriteOnce(kind, NAME, options);
    let there = 0;
    for (const { state, label } of disk.states()) {
      if (!state.has(NAME)) continue;
      await examine(state, [], label);
      there += 1;
    }
    expect(there).toBeGreaterThan(0);
  });

  it('stays as it is when the storage is full, and goes on when there is room again', async () => {
    for (let room = 0; room < 6; room += 1) {
      const disk = await emptyDevice(each);
      const device = await openWriteOnce(NAME, { fileSystem: disk.fileSystem() });
      expect(await writeChunk(device, 1)).toBe('written');
      disk.fullAfter(room);
      const ends = await Promise.allSettled([3, 5].map((chunk) => writeChunk(device, chunk)));
      for (const end of ends)
        if (end.status === 'rejected') expect(end.reason).toMatchObject({ code: 'NO_SPACE' });
      disk.fullAfter(Number.POSITIVE_INFINITY);
      const done = [3, 5].filter((_, index) => ends[index]?.status === 'fulfilled');
      await examine(disk.files(), [1, ...done], `room for ${room}`);
      // What only could not be flushed is whole, and is there as soon as it can be.
      for (const chunk of [3, 5]) if (!done.includes(chunk)) await writeChunk(device, chunk);
      for (const chunk of [3, 5]) expect(await device.isWritten(chunk)).toBe(true);
      await device.close();
      await examine(disk.files(), [1, 3, 5], `after room for ${room}`);
    }
  });
});
