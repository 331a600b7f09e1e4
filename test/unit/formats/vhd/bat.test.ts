import { describe, expect, it } from 'vitest';
import { BlockAllocationTable, UNALLOCATED } from '../../../../src/formats/vhd/bat.js';
import { BlockSlots } from '../../../../src/formats/vhd/block-slots.js';
import { AsyncLru } from '../../../../src/formats/vhd/lru.js';
import { WatchedFile } from './images.js';

const PAGE = 64 * 1024;

async function tableOf(
  entries: number,
  offset: number,
): Promise<{ file: WatchedFile; bat: BlockAllocationTable }> {
  const file = new WatchedFile();
  const bytes = Buffer.alloc(entries * 4);
  for (let index = 0; index < entries; index += 1) bytes.writeUInt32BE(0xf0000000 + index, index * 4);
  await file.write(bytes, offset);
  const table = { offset, entries, blocks: entries, blockSize: 2 ** 21, bitmapBytes: 512 };
  return { file, bat: new BlockAllocationTable(file, table) };
}

describe('block allocation table', () => {
  it('hands out entries across pages, as unsigned numbers', async () => {
    const { bat } = await tableOf(40000, 1536);
    expect([...(await bat.entries(16382, 4))]).toEqual([0xf0003ffe, 0xf0003fff, 0xf0004000, 0xf0004001]);
    expect([...(await bat.entries(39999, 1))]).toEqual([0xf0009c3f]);
    expect((await bat.entries(0, 40000)).length).toBe(40000);
    expect(bat.entryOffset(3)).toBe(1548);
  });

  it('reads a page once while it is in use', async () => {
    const { file, bat } = await tableOf(40000, 512);
    await Promise.all([bat.entries(0, 5), bat.entries(3, 5), bat.entries(100, 1)]);
    await bat.entries(16000, 300);
    expect(file.reads).toBe(1);
    expect(file.longestRead).toBe(PAGE);
  });

  it('keeps 64 pages and no more', async () => {
    const { file, bat } = await tableOf(65 * 16384, 512);
    for (let page = 0; page < 64; page += 1) await bat.entries(page * 16384, 1);
    await bat.entries(0, 1);
    expect(file.reads).toBe(64);
    await bat.entries(64 * 16384, 1);
    await bat.entries(0, 1);
    expect(file.reads).toBe(65);
    await bat.entries(16384, 1);
    expect(file.reads).toBe(66);
  });

  it('visits every block once in page order', async () => {
    const { bat } = await tableOf(40000, 512);
    let next = 0;
    for await (const { first, entries } of bat.pages()) {
      expect(first).toBe(next);
      expect(entries[0]).toBe(0xf0000000 + first);
      next += entries.length;
    }
    expect(next).toBe(40000);
  });

  it('says where the file ended within the table', async () => {
    const { file, bat } = await tableOf(100, 1536);
    await file.truncate(1536 + 40);
    await expect(bat.entries(0, 1)).rejects.toMatchObject({
      code: 'IMAGE_CORRUPT',
      context: { defect: 'VHD_BAT_OUTSIDE_FILE', offset: 1576 },
    });
  });
});

describe('the cache', () => {
  it('holds no more than its capacity and keeps what was used last', async () => {
    const loads: number[] = [];
    const lru = new AsyncLru(3, async (key) => {
      loads.push(key);
      return key * 2;
    });
    for (const key of [1, 2, 3, 1, 4, 1, 2]) expect(await lru.get(key)).toBe(key * 2);
    expect(lru.size).toBe(3);
    expect(loads).toEqual([1, 2, 3, 4, 2]);
  });

  it('does not remember failures', async () => {
    let calls = 0;
    const lru = new AsyncLru(3, async () => {
      calls += 1;
      if (calls === 1) throw new Error('once');
      return 'fine';
    });
    await expect(lru.get(7)).rejects.toThrow('once');
    expect(await lru.get(7)).toBe('fine');
  });
});

describe('places of new blocks', () => {
  const MiB = 1024 * 1024;

  it('are those that Windows chose: bitmap in the sector before a 4 KiB boundary, stride 4104 sectors', () => {
    const slots = new BlockSlots('x', 2048, 2 * MiB, 512);
    expect(slots.footerOffset).toBe(7680);
    const first = slots.take();
    expect(slots.entryOf(first)).toBe(15);
    expect(slots.entryOf(slots.take())).toBe(15 + 4104);
    expect((slots.footerOffset + 512) % 4096).toBe(0);
    expect(slots.dataOffsetOf(15)).toBe(8192);
  });

  it('are used again when given back, before the file grows', () => {
    const slots = new BlockSlots('x', 4096, 4096, 512);
    const first = slots.take();
    slots.take();
    const end = slots.footerOffset;
    slots.giveBack(first);
    expect(slots.take()).toBe(first);
    expect(slots.footerOffset).toBe(end);
  });

  it('hold 2040 GiB in 2 MiB blocks, and end where sector numbers end', () => {
    const whole = new BlockSlots('x', 1536 + 4 * 1044480, 2 * MiB, 512);
    let entry = 0;
    for (let block = 0; block < 1044480; block += 1) entry = whole.entryOf(whole.take());
    expect(entry).toBeLessThan(UNALLOCATED);
    expect(entry).toBeGreaterThan(2 ** 31);
    const small = new BlockSlots('x', 2 ** 41 - 16384, 4096, 512);
    const more = () => {
      for (let block = 0; block < 4; block += 1) small.take();
    };
    expect(more).toThrow(expect.objectContaining({ code: 'TARGET_TOO_SMALL' }));
  });
});
