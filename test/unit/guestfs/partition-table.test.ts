import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isVhdkitError } from '../../../src/base/errors.js';
import { findPartitionTable } from '../../../src/guestfs/partition-table.js';
import { resectorGpt } from '../../../src/guestfs/resector-gpt.js';
import { resectorMbr } from '../../../src/guestfs/resector-mbr.js';
import { gptDisk, MiB, numbered, putMbr, reader, sealHeader } from './disks.js';

const SIZE = 8 * MiB;
const PARTITIONS = [
  { offset: MiB, length: MiB },
  { offset: 2 * MiB, length: 3 * MiB },
];

function disk(sectorSize: 512 | 4096, mbr?: { type: number; first: number; count: number }[]): Buffer {
  return gptDisk({ sectorSize, size: SIZE, partitions: PARTITIONS, ...(mbr ? { mbr } : {}) });
}

const find = (bytes: Uint8Array, preferred?: 512 | 4096) =>
  findPartitionTable(reader(bytes), bytes.length, preferred);

describe.each([512, 4096] as const)('a GPT at %d-byte sectors', (sectorSize) => {
  it('is found, and with it the sector size', async () => {
    const table = await find(disk(sectorSize));
    expect(table).toMatchObject({ kind: 'gpt', sectorSize, defects: [] });
  });

  it('is taken from its copy when the primary one is damaged', async () => {
    const bytes = disk(sectorSize);
    bytes[sectorSize + 60] = 0;
    const table = await find(bytes);
    expect(table).toMatchObject({
      kind: 'gpt',
      sectorSize,
      defects: ['its primary copy has a wrong checksum'],
    });
  });

  it('is taken from its copy when the primary one is gone', async () => {
    const bytes = disk(sectorSize);
    bytes.fill(0, sectorSize, sectorSize * 2);
    expect(await find(bytes)).toMatchObject({
      kind: 'gpt',
      sectorSize,
      defects: ['its primary copy is missing'],
    });
  });

  it('is a leftover when the MBR has partitions of its own', async () => {
    const table = await find(disk(sectorSize, [{ type: 0x83, first: 2048, count: 2048 }]));
    expect(table).toMatchObject({ kind: 'mbr' });
  });

  it('does not count the copy of another table', async () => {
    const bytes = disk(sectorSize);
    const header = bytes.subarray(SIZE - sectorSize);
    header.write('another one', 56);
    sealHeader(header);
    expect(await find(bytes)).toMatchObject({
      kind: 'gpt',
      backup: undefined,
      defects: ['its backup copy belongs to another table'],
    });
  });

  it('is damaged when both copies are', async () => {
    const bytes = disk(sectorSize);
    bytes[sectorSize + 60] = 0;
    bytes[SIZE - sectorSize + 60] = 0;
    expect(await find(bytes)).toEqual({ kind: 'damaged', sectorSize, defect: 'has a wrong checksum' });
  });

  it('is damaged when the disk was cut', async () => {
    expect(await find(disk(sectorSize).subarray(0, 6 * MiB))).toMatchObject({ kind: 'damaged', sectorSize });
  });

  it('is found on a disk that was made larger, which it says', async () => {
    const table = await find(Buffer.concat([disk(sectorSize), Buffer.alloc(MiB)]));
    expect(table).toMatchObject({
      kind: 'gpt',
      defects: ['its backup copy is not at the end of the disk'],
    });
  });
});

describe('partition tables', () => {
  it('are not seen where there are none', async () => {
    expect(await find(numbered(SIZE))).toBeUndefined();
    expect(await find(Buffer.alloc(SIZE))).toBeUndefined();
    expect(await find(Buffer.alloc(100))).toBeUndefined();
    expect(await find(Buffer.alloc(512))).toBeUndefined();
  });

  it('are not seen in the boot sector of a file system', async () => {
    const bytes = numbered(SIZE);
    bytes.writeUInt16LE(0xaa55, 510);
    expect(await find(bytes)).toBeUndefined();
  });

  it('are an MBR where there is only one', async () => {
    const bytes = Buffer.alloc(SIZE);
    putMbr(bytes, [{ type: 0x83, first: 2048, count: 2048, slot: 2 }]);
    expect(await find(bytes)).toMatchObject({
      kind: 'mbr',
      mbrEntries: [{ slot: 2, type: 0x83, first: 2048 }],
    });
  });

  it('are ambiguous with two sound GPTs, unless something says which counts', async () => {
    // The 4096-byte one uses no entry in the sectors where the other one is.
    const bytes = disk(4096);
    const other = disk(512);
    const array = Buffer.from(other.subarray(1024, 1024 + 16384));
    // Away from the other's header and array: behind it, in front of the first partition.
    array.copy(bytes, 512 * 64);
    const header = Buffer.from(other.subarray(512, 1024));
    header.writeBigUInt64LE(64n, 72);
    header.writeBigUInt64LE(2048n, 40);
    sealHeader(header);
    header.copy(bytes, 512);
    expect(await find(bytes)).toEqual({ kind: 'ambiguous' });
    expect(await find(bytes, 512)).toMatchObject({ kind: 'gpt', sectorSize: 512 });
    expect(await find(bytes, 4096)).toMatchObject({ kind: 'gpt', sectorSize: 4096 });
  });

  it('of any bytes give an answer or a VhdkitError, and never a read outside the disk', async () => {
    const place = fc.oneof(
      fc.integer({ min: 446, max: 511 }),
      fc.integer({ min: 512, max: 1200 }),
      fc.integer({ min: 4096, max: 4300 }),
      fc.integer({ min: SIZE - 4096, max: SIZE - 1 }),
    );
    const edits = fc.array(fc.tuple(place, fc.nat(255)), { maxLength: 12 });
    const base = fc.constantFrom(disk(512), disk(4096));
    await fc.assert(
      fc.asyncProperty(base, edits, fc.boolean(), async (original, changes, reseal) => {
        const bytes = Buffer.from(original);
        for (const [at, value] of changes) bytes[at] = value;
        for (const sectorSize of [512, 4096]) {
          const header = bytes.subarray(sectorSize, sectorSize * 2);
          if (reseal && header.readUInt32LE(12) <= sectorSize) sealHeader(header);
        }
        const table = await find(bytes);
        try {
          for (const [from, to] of [
            [512, 4096],
            [4096, 512],
          ] as const) {
            const change = { from, to, size: SIZE };
            if (table?.kind === 'mbr') await resectorMbr(table, change, reader(bytes), SIZE);
            if (table?.kind !== 'gpt' || table.sectorSize !== from) continue;
            const { edits: made } = resectorGpt(table, change);
            for (const { offset, bytes: put } of made) expect(offset + put.length).toBeLessThanOrEqual(SIZE);
          }
        } catch (error) {
          if (!isVhdkitError(error)) throw error;
        }
      }),
      { numRuns: 300 },
    );
  });
});
