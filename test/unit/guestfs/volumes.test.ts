import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findVolumes } from '../../../src/guestfs/volumes.js';
import { gptDisk, type MbrSpec, MiB, numbered, putMbr, reader } from './disks.js';

const SIZE = 16 * MiB;
/** For random tables. */
const SMALL = 128 * 1024;
const LINUX = 0x83;
const EXTENDED = 5;

function mbrDisk(entries: readonly MbrSpec[]): Buffer {
  const disk = Buffer.alloc(SIZE);
  putMbr(disk, entries);
  return disk;
}

/** As `partition 1 1+4` in MiB, kept ones with what and why. */
async function volumesOf(disk: Buffer, sectorSize?: 512 | 4096): Promise<string[]> {
  const found = await findVolumes(reader(disk), disk.length, sectorSize);
  return found.map(({ name, offset, length, keep }) => {
    const place = `${name} ${offset / MiB}+${length / MiB}`;
    return keep ? `${place}: ${keep.kind}: ${keep.reason}` : place;
  });
}

function keptDisk(reason: string): string[] {
  return [`whole disk 0+${SIZE / MiB}: partition table: ${reason}`];
}

const MIB_SECTORS = 2048;
const GPT_SPEC = {
  sectorSize: 512,
  size: SIZE,
  partitions: [
    { offset: 8 * MiB, length: 4 * MiB },
    { offset: MiB, length: 2 * MiB },
  ],
} as const;

/** An extended partition of 12 MiB at 3 MiB with logical ones in it, each a MiB behind its record. */
function extendedDisk(): Buffer {
  const disk = mbrDisk([
    { type: LINUX, first: MIB_SECTORS, count: 2 * MIB_SECTORS },
    { type: EXTENDED, first: 3 * MIB_SECTORS, count: 12 * MIB_SECTORS },
  ]);
  const first: MbrSpec = { type: LINUX, first: MIB_SECTORS, count: 2 * MIB_SECTORS };
  putMbr(disk, [first, { type: EXTENDED, first: 4 * MIB_SECTORS, count: MIB_SECTORS }], 3 * MiB);
  putMbr(disk, [first, { type: EXTENDED, first: 8 * MIB_SECTORS, count: MIB_SECTORS }], 7 * MiB);
  putMbr(disk, [{ type: LINUX, first: MIB_SECTORS, count: 3 * MIB_SECTORS }], 11 * MiB);
  return disk;
}

function flip(disk: Buffer, at: number): void {
  disk[at] = (disk[at] ?? 0) ^ 1;
}

function putExt(disk: Buffer): void {
  disk.writeUInt16LE(0xef53, 1024 + 56);
}

describe('the volumes of a disk', () => {
  it('are the partitions of a GPT, in order, for sectors of both sizes', async () => {
    for (const sectorSize of [512, 4096] as const) {
      const disk = gptDisk({ ...GPT_SPEC, sectorSize });
      expect(await volumesOf(disk)).toEqual(['partition 2 1+2', 'partition 1 8+4']);
    }
  });

  it('are the partitions of an MBR, logical ones included', async () => {
    expect(await volumesOf(extendedDisk())).toEqual([
      'partition 1 1+2',
      'partition 5 4+2',
      'partition 6 8+2',
      'partition 7 12+3',
    ]);
  });

  it('are counted in the sectors of the disk', async () => {
    const disk = mbrDisk([{ type: LINUX, first: 256, count: 512 }]);
    expect(await volumesOf(disk, 4096)).toEqual(['partition 1 1+2']);
    expect(await volumesOf(disk)).toEqual(['partition 1 0.125+0.25']);
  });

  it('are the whole disk without a table', async () => {
    expect(await volumesOf(Buffer.alloc(SIZE))).toEqual(['whole disk 0+16']);
    const ext = Buffer.alloc(SIZE);
    putExt(ext);
    expect(await volumesOf(ext)).toEqual(['whole disk 0+16']);
  });

  it('are the whole disk when a boot sector of NTFS or FAT ends like an MBR', async () => {
    for (const [at, oem] of [
      [3, 'NTFS    '],
      [3, 'EXFAT   '],
      [54, 'FAT16   '],
    ] as const) {
      const disk = Buffer.alloc(SIZE);
      disk.write(oem, at, 'latin1');
      // Code that decodes as entries: overlapping ones.
      putMbr(disk, [
        { type: 0x61, first: 1, count: 100 },
        { type: 0x62, first: 50, count: 100 },
      ]);
      expect(await volumesOf(disk), oem).toEqual(['whole disk 0+16']);
    }
  });

  it('stay, all of them, when the GPT is damaged or contradicted', async () => {
    const primary = gptDisk(GPT_SPEC);
    flip(primary, 512 + 40);
    expect(await volumesOf(primary)).toEqual(keptDisk('the GPT at the start of the disk is damaged'));

    const both = gptDisk(GPT_SPEC);
    flip(both, 512 + 40);
    flip(both, SIZE - 512 + 40);
    expect(await volumesOf(both)).toEqual(keptDisk('the GPT is damaged: it has a wrong checksum'));

    const gone = mbrDisk([{ type: 0xee, first: 1, count: SIZE / 512 - 1 }]);
    expect(await volumesOf(gone)).toEqual(keptDisk('the MBR announces a GPT, and there is none'));

    const hybrid = [
      { type: 0xee, first: 1, count: MIB_SECTORS - 1 },
      { type: LINUX, first: 5 * MIB_SECTORS, count: MIB_SECTORS },
    ];
    expect(await volumesOf(gptDisk({ ...GPT_SPEC, mbr: hybrid }))).toEqual(
      keptDisk('the MBR and the GPT name different partitions'),
    );
  });

  it('stay when the MBR contradicts itself, or something covers the whole disk', async () => {
    const overlapping = mbrDisk([
      { type: LINUX, first: 2048, count: 4096 },
      { type: LINUX, first: 4096, count: 4096 },
    ]);
    expect(await volumesOf(overlapping)).toEqual(keptDisk('the MBR contradicts itself'));
    const rival = extendedDisk();
    putExt(rival);
    expect(await volumesOf(rival)).toEqual(
      keptDisk('there is a partition table, and ext2/3/4 over all of the disk'),
    );
    const raid = extendedDisk();
    raid.set([0xfc, 0x4e, 0x2b, 0xa9], SIZE - 64 * 1024);
    expect(await volumesOf(raid)).toEqual(
      keptDisk('there is a partition table, and Linux RAID over all of the disk'),
    );
  });

  it('stay when they end outside the disk, or belong to a dynamic disk', async () => {
    const disk = mbrDisk([
      { type: LINUX, first: MIB_SECTORS, count: MIB_SECTORS },
      { type: 0x42, first: 2 * MIB_SECTORS, count: MIB_SECTORS },
      { type: LINUX, first: 15 * MIB_SECTORS, count: 2 * MIB_SECTORS },
    ]);
    expect(await volumesOf(disk)).toEqual([
      'partition 1 1+1',
      'partition 2 2+1: Windows dynamic disk: its volumes may lie anywhere on it',
      'partition 3 15+1: unknown: it ends outside the disk',
    ]);
  });

  it.each<[string, (disk: Buffer) => void]>([
    ['the chain comes back to sector 6144', (disk) => disk.writeUInt32LE(0, 11 * MiB + 446 + 8)],
    ['there is no record at sector 14336', (disk) => disk.fill(0, 7 * MiB, 7 * MiB + 512)],
    [
      'a logical partition outside the extended one',
      (disk) => disk.writeUInt32LE(9 * MIB_SECTORS, 11 * MiB + 446 + 12),
    ],
    ['logical partitions overlap', (disk) => disk.writeUInt32LE(4 * MIB_SECTORS, 3 * MiB + 446 + 12)],
    [
      'a record at sector 1054720 outside the extended partition',
      (disk) => disk.writeUInt32LE(2 ** 20, 3 * MiB + 446 + 16 + 8),
    ],
  ])('keep the extended partition: %s', async (reason, change) => {
    const disk = extendedDisk();
    if (reason.startsWith('the chain')) disk[11 * MiB + 446 + 4] = EXTENDED;
    change(disk);
    expect(await volumesOf(disk)).toEqual([
      'partition 1 1+2',
      `partition 2 3+12: extended partition: ${reason}`,
    ]);
  });

  it('lie inside the disk and apart, whatever the table says', async () => {
    const entry = fc.record({
      type: fc.constantFrom(0, LINUX, EXTENDED, 0x42),
      first: fc.integer({ min: 0, max: SMALL / 512 + 10 }),
      count: fc.integer({ min: 0, max: SMALL / 512 + 10 }),
    });
    const records = fc.array(
      fc.tuple(fc.integer({ min: 0, max: SMALL / 512 - 1 }), fc.array(entry, { maxLength: 4 })),
      { maxLength: 6 },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { minLength: 1, maxLength: 4 }), records, async (table, chain) => {
        const disk = numbered(SMALL);
        for (const [at, entries] of chain) putMbr(disk.fill(0, at * 512, at * 512 + 512), entries, at * 512);
        putMbr(disk.fill(0, 0, 512), table);
        let end = 0;
        for (const { offset, length, keep } of await findVolumes(reader(disk), SMALL)) {
          expect(offset + length).toBeLessThanOrEqual(SMALL);
          if (keep) continue;
          expect(offset).toBeGreaterThanOrEqual(end);
          end = offset + length;
        }
      }),
      { seed: 5, numRuns: 150 },
    );
  });
});
