import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findPartitionTable } from '../../../src/guestfs/partition-table.js';
import type { Edit, Resectored, SectorChange } from '../../../src/guestfs/resector.js';
import { resectorGpt } from '../../../src/guestfs/resector-gpt.js';
import { resectorMbr } from '../../../src/guestfs/resector-mbr.js';
import { gptDisk, type MbrSpec, MiB, type PartitionSpec, putMbr, reader, sealHeader } from './disks.js';

const SIZE = 8 * MiB;
const UP: SectorChange = { from: 512, to: 4096, size: SIZE };
const DOWN: SectorChange = { from: 4096, to: 512, size: SIZE };

async function resector(disk: Buffer, change: SectorChange): Promise<Resectored> {
  const table = await findPartitionTable(reader(disk), disk.length);
  if (table?.kind === 'gpt') {
    expect(table.sectorSize).toBe(change.from);
    return resectorGpt(table, change);
  }
  if (table?.kind === 'mbr') return resectorMbr(table, change, reader(disk), disk.length);
  throw new Error(`no table: ${JSON.stringify(table)}`);
}

function applied(disk: Buffer, edits: readonly Edit[], size = disk.length): Buffer {
  const out = Buffer.alloc(size);
  disk.copy(out);
  for (const { offset, bytes } of edits) out.set(bytes, offset);
  return out;
}

async function gptOf(disk: Buffer) {
  const table = await findPartitionTable(reader(disk), disk.length);
  if (table?.kind !== 'gpt') throw new Error(`no GPT: ${JSON.stringify(table)}`);
  return table;
}

/** What of a table must not change, in bytes. */
async function meaning(disk: Buffer) {
  const { sectorSize, valid } = await gptOf(disk);
  const { array, partitions, header } = valid;
  return partitions.map(({ number, first, last }) => {
    const entry = Buffer.from(array.subarray((number - 1) * header.entrySize, number * header.entrySize));
    const span = [first * sectorSize, (last + 1) * sectorSize];
    return {
      number,
      span,
      rest: [entry.subarray(0, 32).toString('hex'), entry.subarray(48).toString('hex')],
    };
  });
}

/** Layouts in units of 4 KiB that leave room for either kind of table. */
const layout = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 1, max: 300 })), { maxLength: 8 })
  .map((steps) => {
    const partitions: PartitionSpec[] = [];
    let at = 6;
    for (const [gap, length] of steps) {
      if (at + gap + length > SIZE / 4096 - 5) break;
      partitions.push({ offset: (at + gap) * 4096, length: length * 4096 });
      at += gap + length;
    }
    return partitions;
  });

describe.each([
  { change: UP, name: '512 to 4096' },
  { change: DOWN, name: '4096 to 512' },
])('a GPT from $name bytes', ({ change }) => {
  it('has the same partitions at the same bytes, and both copies are in order', async () => {
    await fc.assert(
      fc.asyncProperty(layout, fc.constantFrom(0, 4096, MiB), async (partitions, more) => {
        const disk = gptDisk({ sectorSize: change.from, size: SIZE, partitions });
        const size = SIZE + more;
        const { edits, partitions: spans } = await resector(disk, { ...change, size });
        const out = applied(disk, edits, size);
        const table = await gptOf(out);
        expect(table).toMatchObject({ sectorSize: change.to, defects: [] });
        expect(table.backup?.header.myLba).toBe(size / change.to - 1);
        expect(table.mbrEntries).toEqual([
          { slot: 0, status: 0, type: 0xee, first: 1, count: size / change.to - 1 },
        ]);
        expect(await meaning(out)).toEqual(await meaning(disk));
        expect(out.toString('latin1').split('EFI PART')).toHaveLength(3);
        const end = ((await gptOf(disk)).valid.header.lastUsable + 1) * change.from;
        expect((table.valid.header.lastUsable + 1) * change.to).toBeLessThanOrEqual(end);
        expect(spans.map(({ offset, length }) => ({ offset, length }))).toEqual(partitions);
        for (const { offset, length } of partitions) {
          expect(out.subarray(offset, offset + length).equals(disk.subarray(offset, offset + length))).toBe(
            true,
          );
        }
        // Nothing is left for whoever guesses the old sector size.
        const old = await findPartitionTable(reader(out), size, change.from, [change.from]);
        expect(old).toMatchObject({ kind: 'mbr' });
      }),
      { numRuns: 60 },
    );
  });

  it('and back means the same', async () => {
    await fc.assert(
      fc.asyncProperty(layout, async (partitions) => {
        const disk = gptDisk({ sectorSize: change.from, size: SIZE, partitions });
        const there = applied(disk, (await resector(disk, change)).edits);
        const back = applied(there, (await resector(there, change === UP ? DOWN : UP)).edits);
        expect(await meaning(back)).toEqual(await meaning(disk));
        expect((await gptOf(back)).defects).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });
});

describe('a GPT', () => {
  const refused: [string, PartitionSpec, RegExp][] = [
    [
      'begins off the unit',
      { offset: MiB + 512, length: MiB - 512 },
      /partition 2 \(data\) begins at byte 1049088/,
    ],
    ['ends off the unit', { offset: MiB, length: MiB + 512 }, /partition 2 \(data\) ends at byte 2097664/],
    [
      'begins where the table must be',
      { offset: 20480, length: 4096 },
      /partition 2 \(data\) begins at byte 20480.*24576/,
    ],
  ];

  it.each(refused)('is refused by name when a partition %s', async (_name, spec, message) => {
    const partitions = [
      { offset: 6 * MiB, length: MiB },
      { ...spec, name: 'data' },
    ];
    const disk = gptDisk({ sectorSize: 512, size: SIZE, partitions });
    await expect(resector(disk, UP)).rejects.toMatchObject({ code: 'UNSUPPORTED', message });
  });

  it('is refused by name when a partition ends where the copy must be, but not on a larger disk', async () => {
    // 512-byte sectors need 16 896 bytes at the end, 4096-byte sectors 20 480.
    const size = SIZE + 512 * 33;
    const disk = gptDisk({ sectorSize: 512, size, partitions: [{ offset: MiB, length: SIZE - MiB }] });
    const padded = Math.ceil(size / 4096) * 4096;
    await expect(resector(disk, { ...UP, size: padded })).resolves.toBeDefined();
    await expect(resector(disk, { ...UP, size: padded - 4096 })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: /partition 1 \(part1\) ends 16384 bytes before the end of the disk.* needs 20480/,
    });
  });

  it('is refused with a hybrid MBR', async () => {
    const mbr = [
      { type: 0xee, first: 1, count: 2047 },
      { type: 0x83, first: 2048, count: 2048 },
    ];
    const disk = gptDisk({ sectorSize: 512, size: SIZE, partitions: [{ offset: MiB, length: MiB }], mbr });
    await expect(resector(disk, UP)).rejects.toMatchObject({ code: 'UNSUPPORTED', message: /hybrid/ });
  });

  it('with a damaged copy is whole afterwards', async () => {
    const partitions = [{ offset: MiB, length: MiB }];
    for (const at of [512 + 60, SIZE - 512 + 60]) {
      const disk = gptDisk({ sectorSize: 512, size: SIZE, partitions });
      disk[at] = 0;
      expect((await gptOf(disk)).defects).toHaveLength(1);
      const out = applied(disk, (await resector(disk, UP)).edits);
      expect((await gptOf(out)).defects).toEqual([]);
      expect(await meaning(out)).toEqual(await meaning(gptDisk({ sectorSize: 512, size: SIZE, partitions })));
    }
  });

  it('never has an old copy erased that lies among its partitions', async () => {
    // The disk was made larger and its last partition with it; the old copy was never wiped.
    const small = gptDisk({ sectorSize: 512, size: 4 * MiB, partitions: [] });
    const disk = gptDisk({ sectorSize: 512, size: SIZE, partitions: [{ offset: MiB, length: 6 * MiB }] });
    small.copy(disk, 4 * MiB - 512 * 33, 4 * MiB - 512 * 33);
    // The primary copy still names it.
    const header = disk.subarray(512, 1024);
    header.writeBigUInt64LE(BigInt((4 * MiB) / 512 - 1), 32);
    sealHeader(header);
    const out = applied(disk, (await resector(disk, UP)).edits);
    expect(out.subarray(MiB, 7 * MiB).equals(disk.subarray(MiB, 7 * MiB))).toBe(true);
  });
});

/** 2048-sector gaps as fdisk leaves them; numbers in sectors of 512 bytes. */
const LOGICAL: { at: number; entries: MbrSpec[] }[] = [
  {
    at: 6144,
    entries: [
      { type: 0x83, first: 2048, count: 1024 },
      { type: 0x05, first: 4096, count: 3072 },
    ],
  },
  { at: 10240, entries: [{ type: 0x82, first: 2048, count: 1024 }] },
];

function mbrDisk(primary: readonly MbrSpec[], records = LOGICAL): Buffer {
  const disk = Buffer.alloc(SIZE);
  disk.write('boot code', 0);
  disk.writeUInt32LE(0xcafe, 440);
  putMbr(disk, primary);
  for (const { at, entries } of records) putMbr(disk, entries, at * 512);
  return disk;
}

const PRIMARY: MbrSpec[] = [
  { type: 0x83, first: 2048, count: 2048 },
  { type: 0x07, first: 4096, count: 2048, slot: 3 },
  { type: 0x05, first: 6144, count: 8192, slot: 1 },
];

describe('an MBR', () => {
  it('counts in the new unit, logical partitions too, and back gives the same bytes', async () => {
    const disk = mbrDisk(PRIMARY);
    const { edits, partitions } = await resector(disk, UP);
    expect(partitions).toEqual([
      { label: 'partition 1', offset: MiB, length: MiB },
      { label: 'partition 5', offset: 4 * MiB, length: MiB / 2 },
      { label: 'partition 6', offset: 6 * MiB, length: MiB / 2 },
      { label: 'partition 4', offset: 2 * MiB, length: MiB },
    ]);
    const there = applied(disk, edits);
    expect(there.readUInt32LE(446 + 8)).toBe(256);
    expect(there.readUInt32LE(6144 * 512 + 446 + 16 + 8)).toBe(512);
    expect(there.subarray(0, 446).equals(disk.subarray(0, 446))).toBe(true);
    const back = applied(there, (await resector(there, DOWN)).edits);
    for (const at of [0, 6144 * 512, 10240 * 512]) {
      for (const slot of [0, 1, 2, 3]) {
        const lba = at + 446 + slot * 16 + 8;
        expect(back.subarray(lba, lba + 8).equals(disk.subarray(lba, lba + 8)), `${at} ${slot}`).toBe(true);
      }
    }
  });

  const refused: [string, MbrSpec[], typeof LOGICAL, RegExp][] = [
    [
      'a partition of the days of DOS',
      [{ type: 6, first: 63, count: 8001 }],
      [],
      /partition 1 begins at byte 32256/,
    ],
    ['an odd end', [{ type: 6, first: 64, count: 8001 }], [], /partition 1 ends at byte/],
    ['a GPT that is not there', [{ type: 0xee, first: 1, count: 16383 }], [], /announces a GPT/],
    [
      'a chain that leads nowhere',
      [{ type: 5, first: 6144, count: 8192 }],
      [],
      /broken at byte 3145728: there is no/,
    ],
    [
      'a chain that leaves the disk',
      [{ type: 5, first: 6144, count: 8192 }],
      [{ at: 6144, entries: [{ type: 5, first: 0x7fffff00, count: 8 }] }],
      /it leaves the disk/,
    ],
    [
      'a chain that comes back',
      [{ type: 5, first: 6144, count: 8192 }],
      [{ at: 6144, entries: [{ type: 5, first: 0, count: 8 }] }],
      /comes back to itself/,
    ],
    [
      'a chain that forks',
      [{ type: 5, first: 6144, count: 8192 }],
      [
        {
          at: 6144,
          entries: [
            { type: 5, first: 8, count: 8 },
            { type: 5, first: 16, count: 8 },
          ],
        },
      ],
      /two successors/,
    ],
    [
      'a logical partition off the unit',
      [{ type: 5, first: 6144, count: 8192 }],
      [{ at: 6144, entries: [{ type: 0x83, first: 63, count: 8 }] }],
      /partition 5 begins at/,
    ],
  ];

  it.each(refused)('is refused with %s', async (_name, primary, records, message) => {
    await expect(resector(mbrDisk(primary, records), UP)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message,
    });
  });

  it('is refused with a chain without end', async () => {
    const records = Array.from({ length: 300 }, (_, index) => ({
      at: 6144 + index * 8,
      entries: [{ type: 5, first: (index + 1) * 8, count: 8 }],
    }));
    const disk = mbrDisk([{ type: 5, first: 6144, count: 8192 }], records);
    await expect(resector(disk, UP)).rejects.toMatchObject({ message: /longer than 256/ });
  });

  it('is refused when the numbers get too large', async () => {
    const disk = mbrDisk([{ type: 0x83, first: 256, count: 0x40000000 }], []);
    await expect(resector(disk, DOWN)).rejects.toMatchObject({ message: /partition 1 reaches beyond/ });
  });
});
