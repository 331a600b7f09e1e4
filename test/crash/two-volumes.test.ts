/**
 * Two volumes over one base after a crash at any instant: the preserved one shows what it showed, or what was
 * being written through it; what either had flushed is there.
 */
import { describe, expect, it } from 'vitest';
import { MemoryFile } from '../../src/io/memory-file.js';
import { LookupTable } from '../../src/layers/two-volumes/lookup-table.js';
import { VolumePair } from '../../src/layers/two-volumes/volume-pair.js';
import { FrontVolume, PreservedVolume } from '../../src/layers/two-volumes/volumes.js';
import { CrashDisk, type CrashState } from '../support/crash-disk.js';
import { FileDevice } from '../support/file-device.js';

const SECTOR = 512;
const BLOCK = 4096;
const SECTORS = 32;
const SIZE = SECTORS * SECTOR;

const sectors = (count: number, value: number): Uint8Array => new Uint8Array(count * SECTOR).fill(value);

async function open(
  disk: CrashDisk,
  isNew: boolean,
): Promise<{ front: FrontVolume; preserved: PreservedVolume }> {
  const fileSystem = disk.fileSystem();
  const base = new FileDevice(await fileSystem.open('base', { writable: true }), SIZE);
  const pair = new VolumePair(base);
  const data = await fileSystem.open('copies', { writable: true });
  const file = await fileSystem.open('table', { writable: true });
  const table = isNew
    ? await LookupTable.create(file, { size: SIZE, blockSize: BLOCK })
    : await LookupTable.open(file);
  pair.split({ data, table });
  return { front: new FrontVolume(pair), preserved: new PreservedVolume(pair, 'before') };
}

function newDisk(): CrashDisk {
  const disk = new CrashDisk([
    ['base', sectors(SECTORS, 1)],
    ['copies', new Uint8Array(0)],
    ['table', new Uint8Array(0)],
  ]);
  return disk;
}

/** First byte of every sector. Every sector is whole: storage writes it so. */
async function shown(state: CrashState): Promise<{ live: number[]; preserved: number[] }> {
  const { front, preserved } = await open(new CrashDisk(state), false);
  const read = async (device: FrontVolume | PreservedVolume): Promise<number[]> => {
    const buffer = new Uint8Array(SIZE);
    await device.read(buffer, 0);
    return Array.from({ length: SECTORS }, (_, index) => buffer[index * SECTOR] as number);
  };
  return { live: await read(front), preserved: await read(preserved) };
}

describe('two volumes after a crash', () => {
  it('leave the preserved one as it was while the live one is written', async () => {
    const disk = newDisk();
    const { front } = await open(disk, true);
    disk.start();
    await Promise.all([front.write(sectors(3, 2), 0), front.write(sectors(20, 3), 5 * SECTOR)]);
    await front.zero(2 * BLOCK, BLOCK);
    await front.flush();
    await front.trim(0, BLOCK);
    await front.write(sectors(1, 4), 31 * SECTOR, { durable: true });
    const flushed = disk.count;
    let instants = 0;
    for (const { state, label } of disk.states({ reorderings: 6 })) {
      instants += 1;
      const { preserved, live } = await shown(state);
      expect(new Set(preserved), label).toEqual(new Set([1]));
      if (label.startsWith(`after ${flushed} of`)) expect(live[31]).toBe(4);
    }
    expect(instants).toBeGreaterThan(60);
  });

  it('keep what was flushed through either, when both are written', async () => {
    const disk = newDisk();
    const { front, preserved } = await open(disk, true);
    disk.start();
    await front.write(sectors(1, 2), 0);
    // The whole block: its entry goes, and must not come back once this is flushed.
    await preserved.write(sectors(8, 3), 0);
    const unflushed = disk.count;
    await preserved.flush();
    const flushed = disk.count;
    // A new entry for the same block, and a part of it patched.
    await front.write(sectors(1, 4), 0);
    await preserved.write(sectors(1, 5), SECTOR);
    await preserved.flush();
    const patched = disk.count;
    for (const { state, label } of disk.states({ reorderings: 8 })) {
      const at = Number(/(\d+) of/.exec(label)?.[1] ?? 0);
      const { preserved: old, live } = await shown(state);
      const [first, second, third] = old;
      // Nothing that only the live volume was given.
      expect([1, 3], label).toContain(first);
      expect([1, 3, 5], label).toContain(second);
      if (at > flushed) expect([first, third], label).toEqual([3, 3]);
      if (at <= unflushed && label.startsWith('after')) expect([1, 2, 3], label).toContain(live[0]);
      if (at === patched && label.startsWith('after')) {
        expect([second, live[1], live[0]], label).toEqual([5, 5, 4]);
      }
    }
  });
});

describe('the look-up table', () => {
  const shape = { size: 100 * 4096 * 4096 + 5, blockSize: 4096 };

  it('is what it was when it is opened again', async () => {
    const file = new MemoryFile();
    const table = await LookupTable.create(file, shape);
    const blocks = [0, 4031, 4032, 4033, 9000, table.blocks - 1];
    await table.add(blocks);
    table.remove(4032);
    await table.settle(table.removalsSoFar());
    const again = await LookupTable.open(file);
    expect(again.shape).toEqual(shape);
    expect(again.count).toBe(blocks.length - 1);
    for (const block of blocks) expect(again.has(block)).toBe(block !== 4032);
    expect(again.state(4033, 4034)).toBe('some');
  });

  it('has a removed entry until that is settled, and one that is back for good', async () => {
    const file = new MemoryFile();
    const table = await LookupTable.create(file, shape);
    await table.add([7, 8]);
    table.remove(7);
    table.remove(8);
    const mark = table.removalsSoFar();
    expect((await LookupTable.open(file)).has(7)).toBe(true);
    await table.add([8]);
    table.remove(8);
    await table.settle(mark);
    const again = await LookupTable.open(file);
    expect([again.has(7), again.has(8)]).toEqual([false, true]);
  });

  it('remembers that the preserved volume was given up', async () => {
    const file = new MemoryFile();
    await (await LookupTable.create(file, shape)).markBroken('copy-failed');
    expect((await LookupTable.open(file)).broken).toBe('copy-failed');
  });

  it.each<[string, number, string]>([
    ['a header', 12, 'no look-up table'],
    ['a sector of entries', 600, 'damaged'],
    ['a checksum of entries', 1023, 'damaged'],
  ])('is refused with a damaged bit in %s', async (_, offset, text) => {
    const file = new MemoryFile();
    await (await LookupTable.create(file, shape)).add([1]);
    const bytes = file.bytes();
    bytes[offset] = (bytes[offset] as number) ^ 4;
    await expect(LookupTable.open(new MemoryFile(bytes))).rejects.toThrow(text);
  });

  it.each([
    { size: 4096, blockSize: 5000 },
    { size: 4096, blockSize: 2048 },
    { size: 4096, blockSize: 32 * 1024 * 1024 },
    { size: 2 ** 46, blockSize: 4096 },
  ])('is not made for %o', async (wrong) => {
    await expect(LookupTable.create(new MemoryFile(), wrong)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it('is refused when it is cut or of another kind', async () => {
    await expect(LookupTable.open(new MemoryFile())).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    await expect(LookupTable.open(new MemoryFile(new Uint8Array(4096)))).rejects.toMatchObject({
      code: 'IMAGE_CORRUPT',
    });
  });
});
