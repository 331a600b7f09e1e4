/**
 * Moving the backup of a GPT: whatever part of the writes a crash lets through, one copy is sound and names
 * the same partitions.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type GptMove, moveGptBackup, smallestGptDisk } from '../../../src/guestfs/gpt-move.js';
import { findPartitionTable, type GptTable } from '../../../src/guestfs/partition-table.js';
import type { Edit } from '../../../src/guestfs/resector.js';
import { gptDisk, MiB, type PartitionSpec, putMbr, reader } from './disks.js';

type SectorSize = 512 | 4096;

async function gptOf(disk: Uint8Array): Promise<GptTable> {
  const table = await findPartitionTable(reader(disk), disk.length);
  if (table?.kind !== 'gpt') throw new Error(`no GPT: ${JSON.stringify(table)}`);
  return table;
}

function put(disk: Buffer, { offset, bytes }: Edit): void {
  disk.set(bytes, offset);
}

function sized(disk: Buffer, size: number): Buffer {
  return size <= disk.length
    ? Buffer.from(disk.subarray(0, size))
    : Buffer.concat([disk, Buffer.alloc(size - disk.length)]);
}

/** Where partitions are, by number. */
function places({ valid }: GptTable): string[] {
  return valid.partitions.map(({ number, name, first, last }) => `${number} ${name} ${first}-${last}`);
}

/** Single sectors of 512 bytes that a step writes: what a crash may let through in any order. */
function sectorsOf(step: readonly Edit[]): Edit[] {
  return step.flatMap(({ offset, bytes }) =>
    Array.from({ length: Math.ceil(bytes.length / 512) }, (_, index) => ({
      offset: offset + index * 512,
      bytes: bytes.subarray(index * 512, (index + 1) * 512),
    })),
  );
}

async function moved(disk: Buffer, size: number, cut = false): Promise<{ disk: Buffer; move: GptMove }> {
  const move = moveGptBackup(await gptOf(disk), { size, cut });
  const out = sized(disk, Math.max(size, disk.length));
  for (const edit of move.steps.flat()) put(out, edit);
  return { disk: sized(out, size), move };
}

const PARTITIONS: PartitionSpec[] = [
  { offset: MiB, length: MiB, name: 'boot' },
  { offset: 2 * MiB, length: 3 * MiB, name: 'data' },
];

describe.each([512, 4096] as const)('moving the backup of a GPT at %d-byte sectors', (sectorSize) => {
  const disk = gptDisk({ sectorSize, size: 8 * MiB, partitions: PARTITIONS });

  it.each([
    ['a larger disk', 12 * MiB],
    ['a disk larger by less than the backup', 8 * MiB + 4096],
    ['a smaller disk', 6 * MiB],
    ['a disk smaller by less than the backup', 8 * MiB - 4096],
  ])('puts it at the end of %s, and both copies agree', async (_, size) => {
    const { disk: after } = await moved(disk, size);
    const table = await gptOf(after);
    expect(table.defects).toEqual([]);
    expect(places(table)).toEqual(places(await gptOf(disk)));
    expect(table.primary?.header.alternateLba).toBe(size / sectorSize - 1);
    expect(table.backup?.header.lastUsable).toBe(size / sectorSize - 2 - 16384 / sectorSize);
    expect(table.mbrEntries).toMatchObject([{ type: 0xee, first: 1, count: size / sectorSize - 1 }]);
  });

  it('leaves nothing of the old one where it was, and touches nothing else', async () => {
    const { disk: after, move } = await moved(disk, 12 * MiB);
    const old = after.subarray(8 * MiB - sectorSize - 16384, 8 * MiB);
    expect(old.every((byte) => byte === 0)).toBe(true);
    expect(after.subarray(MiB, 5 * MiB).equals(disk.subarray(MiB, 5 * MiB))).toBe(true);
    expect(move.cut).toEqual([]);
    expect(move.end).toBe(12 * MiB - sectorSize - 16384);
  });

  it('refuses a size without room behind the last partition, and says which one has', async () => {
    const table = await gptOf(disk);
    const smallest = smallestGptDisk(table);
    expect(smallest).toBeGreaterThan(5 * MiB);
    expect(() => moveGptBackup(table, { size: smallest - 4096 })).toThrow(/partition 2 \(data\) ends at/);
    await expect(moved(disk, smallest)).resolves.toBeDefined();
  });

  it('shortens and drops partitions only when told to', async () => {
    const { disk: after, move } = await moved(disk, 3 * MiB, true);
    const table = await gptOf(after);
    expect(table.defects).toEqual([]);
    expect(move.cut.map(({ number }) => number)).toEqual([2]);
    expect(table.valid.partitions.map(({ last }) => (last + 1) * sectorSize)).toEqual([2 * MiB, move.end]);
    const { disk: tiny } = await moved(disk, 2 * MiB, true);
    const [only, ...others] = (await gptOf(tiny)).valid.partitions;
    expect(only).toMatchObject({ number: 1, name: 'boot' });
    expect(others).toEqual([]);
  });

  it('refuses to cut where the new backup would lie over the old one, and says what would do', async () => {
    const end = 8 * MiB - sectorSize - 16384;
    const full = [{ offset: MiB, length: end - MiB, name: 'all' }];
    const table = await gptOf(gptDisk({ sectorSize, size: 8 * MiB, partitions: full }));
    const refused = (size: number) => () => moveGptBackup(table, { size, cut: true });
    for (const size of [8 * MiB - 4096, 8 * MiB - 16384]) expect(refused(size)).toThrow(/over the old one/);
    expect(refused(end - (end % 4096))).not.toThrow();
  });

  it('refuses a disk without room for any table', async () => {
    const table = await gptOf(disk);
    expect(() => moveGptBackup(table, { size: 8192, cut: true })).toThrow(/too small for a GPT/);
  });

  it('refuses to go by a backup alone', async () => {
    const damaged = Buffer.from(disk);
    damaged[sectorSize + 60] = 0;
    const table = await gptOf(damaged);
    expect(() => moveGptBackup(table, { size: 12 * MiB })).toThrow(/primary copy is damaged/);
  });

  it('makes a new backup where there was none', async () => {
    const without = Buffer.from(disk);
    without.fill(0, 8 * MiB - sectorSize);
    expect((await gptOf((await moved(without, 9 * MiB)).disk)).defects).toEqual([]);
  });

  it('keeps a hybrid MBR', async () => {
    const hybrid = Buffer.from(disk);
    const entries = [
      { type: 0xee, first: 1, count: MiB / sectorSize - 1 },
      { type: 0x83, first: MiB / sectorSize, count: MiB / sectorSize },
    ];
    putMbr(hybrid, entries);
    const { disk: after } = await moved(hybrid, 12 * MiB);
    expect(after.subarray(0, 512).equals(hybrid.subarray(0, 512))).toBe(true);
  });
});

describe('a crash while the backup of a GPT moves', () => {
  const scenario = fc.record({
    sectorSize: fc.constantFrom<SectorSize>(512, 4096),
    oldPages: fc.integer({ min: 80, max: 400 }),
    newPages: fc.oneof(fc.integer({ min: 80, max: 400 }), fc.integer({ min: -6, max: 6 })),
    ends: fc.array(fc.integer({ min: 1, max: 380 }), { minLength: 1, maxLength: 4 }),
    cut: fc.boolean(),
    step: fc.nat(2),
    kept: fc.array(fc.boolean(), { minLength: 200, maxLength: 200 }),
  });

  it('leaves one sound copy with the partitions as they were', async () => {
    let looked = 0;
    await fc.assert(
      fc.asyncProperty(scenario, async ({ sectorSize, oldPages, newPages, ends, cut, step, kept }) => {
        // Small numbers are differences.
        const pages = newPages < 80 ? oldPages + newPages : newPages;
        const [size, oldSize] = [pages * 4096, oldPages * 4096];
        const last = oldPages - 16;
        const bounds = [...new Set(ends)].filter((end) => end < last).sort((a, b) => a - b);
        const partitions = bounds.map((end, index) => {
          const start = 10 + (bounds[index - 1] ?? 0);
          return { offset: start * 4096, length: (10 + end - start) * 4096 };
        });
        const disk = gptDisk({ sectorSize, size: oldSize, partitions });
        const before = await gptOf(disk);
        let move: GptMove;
        try {
          move = moveGptBackup(before, { size, cut });
        } catch (error) {
          expect(size).toBeLessThan(oldSize);
          expect(String(error)).toMatch(/ends at|too small|over the old one/);
          return;
        }
        looked += 1;
        // As an operation does it: grown before, shrunk after.
        const now = sized(disk, Math.max(size, oldSize));
        for (const edit of move.steps.slice(0, step).flat()) put(now, edit);
        const loose = sectorsOf(move.steps[step] ?? []);
        for (const [index, edit] of loose.entries()) if (kept[index % kept.length]) put(now, edit);
        const found = places(await gptOf(now));
        const whole = (await moved(disk, size, cut)).disk;
        expect([places(before), places(await gptOf(whole))]).toContainEqual(found);
        if (move.cut.length === 0) expect(found).toEqual(places(before));
        // While the primary header is written it counts as lost.
        const overlaps = size < oldSize && size > oldSize - sectorSize - 16384;
        if (step !== 1 || overlaps) return;
        const other = places(await gptOf(now.fill(0xff, sectorSize + 8, sectorSize + 92)));
        expect([places(before), places(await gptOf(whole))]).toContainEqual(other);
      }),
      { numRuns: 400 },
    );
    expect(looked).toBeGreaterThan(150);
  });
});
