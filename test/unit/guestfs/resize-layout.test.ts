/** Where partitions and file systems end, for disks written from the specifications and by mkfs. */
import { closeSync, openSync, readSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readDiskLayout } from '../../../src/guestfs/resize-layout.js';
import { tool } from '../../support/requires.js';
import { mustSync } from '../../support/run.js';
import { testFolder } from '../../support/tmp.js';
import { gptDisk, MiB, numbered, putMbr, reader } from './disks.js';

const layoutOf = (disk: Uint8Array, sectorSize?: 512 | 4096) =>
  readDiskLayout(reader(disk), disk.length, sectorSize);

/** A disk full of numbers, without a table. */
function blank(): Buffer {
  const disk = numbered(8 * MiB);
  for (const sector of [0, 4096, 6144]) disk.fill(0, sector * 512, (sector + 1) * 512);
  return disk;
}

describe('the layout of a disk', () => {
  it.each([512, 4096] as const)('names the partitions of a GPT at %d-byte sectors', async (sectorSize) => {
    const partitions = [
      { offset: MiB, length: MiB, name: 'EFI' },
      { offset: 3 * MiB, length: 2 * MiB, name: '' },
    ];
    const layout = await layoutOf(gptDisk({ sectorSize, size: 8 * MiB, partitions }));
    expect(layout).toMatchObject({
      table: 'gpt',
      sectorSize,
      doubts: [],
      spans: [
        { label: 'partition 1 (EFI)', offset: MiB, length: MiB },
        { label: 'partition 2', offset: 3 * MiB, length: 2 * MiB },
      ],
    });
  });

  it('adds what only the MBR of a hybrid knows', async () => {
    const partitions = [{ offset: MiB, length: MiB, name: 'a' }];
    const mbr = [
      { type: 0xee, first: 1, count: 2047 },
      { type: 0x0c, first: 2048, count: 2048 },
      { type: 0x83, first: 8192, count: 2048 },
    ];
    const { spans } = await layoutOf(gptDisk({ sectorSize: 512, size: 8 * MiB, partitions, mbr }));
    expect(spans.map(({ label }) => label)).toEqual(['partition 1 (a)', 'partition 3']);
  });

  it('follows logical partitions, and doubts a chain that breaks off', async () => {
    const disk = blank();
    putMbr(disk, [
      { type: 0x83, first: 2048, count: 2048 },
      { type: 0x05, first: 4096, count: 8192 },
    ]);
    putMbr(
      disk,
      [
        { type: 0x83, first: 63, count: 1000 },
        { type: 0x05, first: 2048, count: 2048 },
      ],
      4096 * 512,
    );
    putMbr(disk, [{ type: 0x83, first: 63, count: 1500 }], (4096 + 2048) * 512);
    const layout = await layoutOf(disk, 512);
    expect(layout.doubts).toEqual([]);
    expect(layout.spans.map(({ label, offset, length }) => [label, (offset + length) / 512])).toEqual([
      ['partition 1', 4096],
      ['partition 2 (extended)', 12288],
      ['partition 5', 4096 + 63 + 1000],
      ['partition 6', 4096 + 2048 + 63 + 1500],
    ]);
    disk.fill(0, (4096 + 2048) * 512, (4096 + 2049) * 512);
    const broken = await layoutOf(disk, 512);
    expect(broken.doubts).toEqual([expect.stringContaining('logical partitions is broken')]);
  });

  it('counts an MBR of a raw disk in the sectors at which file systems are found', async () => {
    const disk = Buffer.alloc(8 * MiB);
    putMbr(disk, [{ type: 0x07, first: 256, count: 512 }]);
    disk.write('NTFS    ', 256 * 4096 + 3);
    disk.writeUInt16LE(4096, 256 * 4096 + 11);
    expect((await layoutOf(disk)).spans).toMatchObject([{ offset: MiB, length: 2 * MiB }]);
    expect((await layoutOf(disk, 512)).spans).toMatchObject([{ offset: 256 * 512, length: 512 * 512 }]);
  });

  it('keeps the database of dynamic disks', async () => {
    const disk = blank();
    putMbr(disk, [{ type: 0x42, first: 63, count: 1000 }]);
    const { spans } = await layoutOf(disk, 512);
    expect(spans.at(-1)).toEqual({ label: 'the database of dynamic disks', offset: 7 * MiB, length: MiB });
  });

  it('doubts tables that are damaged, or announced and not there', async () => {
    const partitions = [{ offset: MiB, length: MiB }];
    const damaged = gptDisk({ sectorSize: 512, size: 8 * MiB, partitions });
    damaged[512 + 60] = 0;
    damaged[8 * MiB - 512 + 60] = 0;
    expect((await layoutOf(damaged)).doubts).toEqual(['the GPT is damaged: it has a wrong checksum']);
    const announced = blank();
    putMbr(announced, [{ type: 0xee, first: 1, count: 1000 }]);
    expect((await layoutOf(announced)).doubts).toHaveLength(1);
  });

  it('has nothing to say of unknown bytes', async () => {
    expect(await layoutOf(numbered(MiB))).toEqual({ table: 'none', sectorSize: 512, spans: [], doubts: [] });
    expect((await layoutOf(Buffer.alloc(512))).spans).toEqual([]);
  });

  it('never throws, and never reads outside, on rubbish that begins like a table', async () => {
    const byte = fc.integer({ min: 0, max: 255 });
    const rubbish = fc.uint8Array({ minLength: 66, maxLength: 66 });
    await fc.assert(
      fc.asyncProperty(rubbish, byte, async (table, type) => {
        const disk = numbered(256 * 1024);
        Buffer.from(table).copy(disk, 446);
        disk[450] = type % 3 === 0 ? 0x05 : type;
        disk.writeUInt32LE(type + 1, 454);
        disk.writeUInt16LE(0xaa55, 510);
        const { spans } = await layoutOf(disk);
        for (const { offset, length } of spans) expect(offset + length).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});

describe('the file system of a disk without a table', () => {
  const kinds: [name: string, command: string, args: string[]][] = [
    ['ext2/3/4', 'mke2fs', ['-q', '-F', '-t', 'ext4', '-O', '64bit']],
    ['NTFS', 'mkfs.ntfs', ['-q', '-F', '-Q']],
    ['FAT', 'mkfs.vfat', []],
    ['exFAT', 'mkfs.exfat', []],
    ['XFS', 'mkfs.xfs', ['-q', '-f']],
    ['Btrfs', 'mkfs.btrfs', ['-q', '-f']],
    ['swap', 'mkswap', []],
  ];

  it.each(kinds.filter(([, command]) => tool(command)))(
    '%s: ends where mkfs was told to',
    async (name, command, args) => {
      const size = command === 'mkfs.xfs' ? 320 * MiB : 128 * MiB;
      const file = path.join(testFolder(), 'disk');
      writeFileSync(file, '');
      truncateSync(file, size);
      mustSync(command, [...args, file]);
      const fd = openSync(file, 'r');
      const read = async (offset: number, length: number) => {
        const out = new Uint8Array(length);
        readSync(fd, out, 0, length, offset);
        return out;
      };
      const { table, spans } = await readDiskLayout(read, size);
      closeSync(fd);
      expect(table).toBe('none');
      expect(spans).toHaveLength(1);
      const [span] = spans;
      expect(span?.label).toBe(`the ${name} file system`);
      expect(span?.length).toBeLessThanOrEqual(size);
      expect(span?.length).toBeGreaterThan(size - MiB);
    },
  );
});
