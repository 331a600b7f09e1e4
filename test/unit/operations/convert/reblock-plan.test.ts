import { describe, expect, it } from 'vitest';
import { Chain } from '../../../../src/formats/chain.js';
import type { DiskImage, SectorSize } from '../../../../src/formats/disk-image.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { RawImage } from '../../../../src/formats/raw/raw-image.js';
import { createImage, openImage } from '../../../../src/formats/registry.js';
import { findPartitionTable } from '../../../../src/guestfs/partition-table.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { planSectors } from '../../../../src/operations/convert/sectors.js';
import { gptDisk, MiB, numbered, putMbr, sealHeader } from '../../guestfs/disks.js';

const SIZE = 8 * MiB;
const PARTITIONS = [{ offset: MiB, length: 2 * MiB, name: 'system' }];

function raw(bytes: Uint8Array): Chain {
  return new Chain([new RawImage(new MemoryFile(bytes, 'disk.raw'), bytes.length, 'reading')]);
}

async function image(
  format: 'vhd' | 'vhdx',
  bytes: Uint8Array,
  logicalSectorSize: SectorSize = 512,
): Promise<Chain> {
  const file = new MemoryFile(undefined, `disk.${format}`);
  const made: DiskImage = await createImage(file, format, {
    type: 'dynamic',
    virtualSize: bytes.length,
    logicalSectorSize,
    clock: { now: () => 1e12 },
    random: { bytes: (count) => new Uint8Array(count).fill(7) },
  });
  const { places, commit } = await made.prepareWrite(0, bytes.length);
  for (const place of places) {
    await file.write(bytes.subarray(place.offset, place.offset + place.length), place.fileOffset);
  }
  await commit();
  await made.flush();
  return new Chain([await openImage(file)]);
}

const gpt = (sectorSize: SectorSize): Buffer => gptDisk({ sectorSize, size: SIZE, partitions: PARTITIONS });

function mbr(): Buffer {
  const disk = Buffer.alloc(SIZE);
  putMbr(disk, [{ type: 0x83, first: 256, count: 512 }]);
  return disk;
}

const NAMES = { source: 'a', target: 'b' };

async function tableOf(chain: Chain) {
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = new Uint8Array(length);
    await readDisk(chain, bytes, offset);
    return bytes;
  };
  return findPartitionTable(read, chain.virtualSize);
}

describe('sectors of the target', () => {
  it('are those of the disk, where nobody says otherwise', async () => {
    expect(await planSectors(raw(gpt(512)), 'vhdx', NAMES)).toMatchObject({ sectorSize: 512, warnings: [] });
    expect(await planSectors(raw(gpt(4096)), 'vhdx', NAMES)).toMatchObject({
      sectorSize: 4096,
      warnings: [],
    });
    expect(await planSectors(raw(mbr()), 'vhdx', NAMES)).toMatchObject({ sectorSize: 512 });
    const asked = { ...NAMES, sourceSectorSize: 4096 as const };
    expect(await planSectors(raw(mbr()), 'vhdx', asked)).toMatchObject({ sectorSize: 4096 });
    expect(await planSectors(raw(gpt(512)), 'vhd', NAMES)).toMatchObject({ sectorSize: 512 });
    const large = await image('vhdx', gpt(4096), 4096);
    expect(await planSectors(large, 'vhdx', NAMES)).toMatchObject({ sectorSize: 4096, warnings: [] });
    expect(await planSectors(raw(gpt(4096)), 'raw', NAMES)).toMatchObject({
      sectorSize: undefined,
      warnings: [],
    });
  });

  it('are whole: the disk gets zeros up to the next one', async () => {
    const odd = numbered(SIZE + 512);
    expect(await planSectors(raw(odd), 'vhdx', { ...NAMES, sectorSize: 4096 })).toMatchObject({
      sectorSize: 4096,
      virtualSize: SIZE + 4096,
    });
    expect(await planSectors(raw(odd.subarray(0, SIZE + 1)), 'vhd', NAMES)).toMatchObject({
      virtualSize: SIZE + 512,
    });
    expect(await planSectors(raw(odd.subarray(0, SIZE + 1)), 'raw', NAMES)).toMatchObject({
      virtualSize: SIZE + 1,
    });
  });

  it('are not recorded by a raw image, which is said of a disk with 4096-byte ones', async () => {
    const plan = await planSectors(await image('vhdx', gpt(4096), 4096), 'raw', NAMES);
    expect(plan.warnings).toMatchObject([{ code: 'SECTORS_NOT_RECORDED' }]);
    const blank = await planSectors(await image('vhdx', Buffer.alloc(SIZE), 4096), 'raw', NAMES);
    expect(blank.warnings).toEqual([]);
  });
});

describe('a disk for other sectors than the target has', () => {
  it.each([
    ['a raw disk for 4096 into a VHD', () => raw(gpt(4096)), 'vhd', {}, /a GPT for 4096-byte/],
    ['a VHDX of 4096 into a VHD', () => image('vhdx', gpt(4096), 4096), 'vhd', {}, /a GPT for 4096-byte/],
    ['a raw disk for 512', () => raw(gpt(512)), 'vhdx', { sectorSize: 4096 }, /a GPT for 512-byte/],
    ['a VHD', () => image('vhd', gpt(512)), 'vhdx', { sectorSize: 4096 }, /a GPT for 512-byte/],
    ['an MBR', () => raw(mbr()), 'vhdx', { sectorSize: 4096 }, /an MBR for 512-byte/],
    ['a VHDX with an MBR', () => image('vhdx', mbr(), 4096), 'vhd', {}, /an MBR for 4096-byte/],
    ['a raw target of 512', () => raw(gpt(4096)), 'raw', { sectorSize: 512 }, /a GPT for 4096-byte/],
  ] as const)('is refused: %s', async (_name, source, to, options, message) => {
    await expect(planSectors(await source(), to, { ...NAMES, ...options })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message,
      hint: expect.stringContaining('--reblock'),
    });
  });

  it.each([
    ['GPT', 512, () => raw(gpt(512)), 'vhdx', { sectorSize: 4096 }],
    ['GPT', 4096, () => image('vhdx', gpt(4096), 4096), 'vhd', {}],
    ['GPT', 4096, () => image('vhdx', gpt(4096), 4096), 'raw', { sectorSize: 512 }],
    ['MBR', 512, () => raw(mbr()), 'vhdx', { sectorSize: 4096 }],
  ] as const)('is rewritten on demand (%s for %d)', async (table, from, source, to, options) => {
    const plan = await planSectors(await source(), to, { ...NAMES, ...options, reblock: true });
    const wanted = from === 512 ? 4096 : 512;
    expect(plan.reblocked).toEqual({ table, from, to: wanted, partitions: 1 });
    expect(plan.virtualSize).toBe(SIZE);
    expect(await tableOf(plan.chain)).toMatchObject(
      table === 'GPT'
        ? { kind: 'gpt', sectorSize: wanted, defects: [] }
        : { kind: 'mbr', mbrEntries: [{ first: 32 }] },
    );
  });

  it('has its copy of the table at the end of the disk that was filled up', async () => {
    const size = SIZE + 512;
    const disk = gptDisk({ sectorSize: 512, size, partitions: PARTITIONS });
    const plan = await planSectors(raw(disk), 'vhdx', { ...NAMES, sectorSize: 4096, reblock: true });
    expect(plan.virtualSize).toBe(SIZE + 4096);
    expect(await tableOf(plan.chain)).toMatchObject({ kind: 'gpt', sectorSize: 4096, defects: [] });
  });

  it('has its copy of the table at the end of the size that the target gets for other reasons', async () => {
    const chain = await image('vhdx', gpt(4096), 4096);
    const options = { ...NAMES, reblock: true };
    const plan = await planSectors(chain, 'vhd', options, (size) => size + MiB);
    expect(plan.virtualSize).toBe(SIZE + MiB);
    expect(await tableOf(plan.chain)).toMatchObject({ kind: 'gpt', sectorSize: 512, defects: [] });
  });

  it('is left alone when the source says the same as the target, with a warning', async () => {
    const plan = await planSectors(await image('vhdx', gpt(4096), 512), 'vhdx', NAMES);
    expect(plan).toMatchObject({ sectorSize: 512, warnings: [{ code: 'SECTORS_TABLE_MISMATCH' }] });
    expect(plan.reblocked).toBeUndefined();
    const right = await planSectors(await image('vhdx', gpt(4096), 512), 'vhdx', {
      ...NAMES,
      sectorSize: 4096,
    });
    expect(right).toMatchObject({ sectorSize: 4096, warnings: [] });
  });

  it('is not rewritten when its GPT is damaged', async () => {
    const disk = gpt(512);
    disk[512 + 60] = 0;
    disk[SIZE - 512 + 60] = 0;
    const options = { ...NAMES, sectorSize: 4096 as const };
    await expect(planSectors(raw(disk), 'vhdx', options)).rejects.toMatchObject({ message: /a damaged GPT/ });
    await expect(planSectors(raw(disk), 'vhdx', { ...options, reblock: true })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: /damaged and can't be rewritten/,
    });
  });

  it('is refused with a table for either, unless it is said which counts', async () => {
    const disk = gpt(4096);
    const other = gpt(512);
    other.copy(disk, 512 * 64, 1024, 1024 + 16384);
    const header = other.subarray(512, 1024);
    header.writeBigUInt64LE(64n, 72);
    header.writeBigUInt64LE(2048n, 40);
    sealHeader(header);
    header.copy(disk, 512);
    await expect(planSectors(raw(disk), 'vhd', NAMES)).rejects.toMatchObject({
      hint: expect.stringContaining('--source-sector-size'),
    });
    const said = await planSectors(raw(disk), 'vhd', { ...NAMES, sourceSectorSize: 512 });
    expect(said.sectorSize).toBe(512);
    expect((await planSectors(raw(disk), 'raw', NAMES)).warnings).toEqual([]);
  });
});

describe('file systems made for other sectors', () => {
  function ntfs(disk: Buffer, offset: number): Buffer {
    disk.write('NTFS    ', offset + 3);
    disk.writeUInt16LE(512, offset + 11);
    return disk;
  }

  it('are named when the disk has no partition table', async () => {
    const plan = await planSectors(raw(ntfs(Buffer.alloc(SIZE), 0)), 'vhdx', { ...NAMES, sectorSize: 4096 });
    expect(plan.warnings).toMatchObject([
      { code: 'SECTORS_FILE_SYSTEM', message: expect.stringMatching(/The disk holds NTFS.*512 bytes/) },
    ]);
    const same = await planSectors(raw(ntfs(Buffer.alloc(SIZE), 0)), 'vhdx', NAMES);
    expect(same.warnings).toEqual([]);
  });

  it('are named with their partition when the table is rewritten, and so is boot code', async () => {
    const disk = ntfs(gpt(512), MiB);
    disk.write('boot', 0);
    const plan = await planSectors(raw(disk), 'vhdx', { ...NAMES, sectorSize: 4096, reblock: true });
    expect(plan.warnings).toMatchObject([
      { code: 'SECTORS_BOOT_CODE' },
      {
        code: 'SECTORS_FILE_SYSTEM',
        offset: MiB,
        message: expect.stringMatching(/Partition 1 \(system\) holds NTFS/),
      },
    ]);
  });
});

describe('options that contradict', () => {
  it.each([
    ['a VHD with 4096-byte sectors', () => raw(gpt(512)), 'vhd', { sectorSize: 4096 }],
    [
      'the sectors of a source that says them itself',
      () => image('vhd', gpt(512)),
      'vhdx',
      { sourceSectorSize: 512 },
    ],
    ['a raw target to be rewritten for nothing', () => raw(gpt(512)), 'raw', { reblock: true }],
  ] as const)('are refused: %s', async (_name, source, to, options) => {
    await expect(planSectors(await source(), to, { ...NAMES, ...options })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });
});
