/**
 * Free space of FAT on volumes made by hand: what is read, what is kept and why, and damage anywhere.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fatFreeSpace } from '../../../../src/guestfs/fat/free-space.js';
import { wholeVolume } from '../../../support/guest-disk.js';
import { MiB, reader } from '../disks.js';
import { ask, damage, expectedRanges, type Patch, patch, patched, structureByte } from '../free-space-kit.js';
import { type FatFile, type FatSpec, fatVolume } from './fat-volume.js';

const FILES: FatFile[] = [
  { name: 'EMPTY', clusters: [] },
  { name: 'LONG    BIN', clusters: [20, 21, 25, 24, 100] },
  {
    name: 'FOLDER',
    clusters: [40, 60],
    entries: [
      { name: 'INSIDE  TXT', clusters: [70], size: 5 },
      { name: 'DEEPER', clusters: [90], entries: [{ name: 'X', clusters: [92, 91], size: 700 }] },
    ],
  },
];
const FAT12: FatSpec = { kind: 'fat12', clusters: 2000, files: FILES, bad: [300] };
const FAT16: FatSpec = { kind: 'fat16', clusters: 4200, files: FILES, bad: [300] };
const FAT32: FatSpec = { kind: 'fat32', clusters: 65_600, files: FILES, bad: [300, 60_000] };

describe('free space of FAT', () => {
  it.each<[string, FatSpec]>([
    ['FAT12', FAT12],
    ['FAT12 with the most clusters', { ...FAT12, clusters: 4084 }],
    ['FAT16 with the fewest clusters', { ...FAT16, clusters: 4085 }],
    ['FAT16', FAT16],
    ['FAT16 with sectors of 4 KiB', { ...FAT16, sectorBytes: 4096, files: [] }],
    ['FAT32', FAT32],
    ['one table only', { ...FAT16, copies: 1 }],
    ['a floppy', { ...FAT12, files: FILES.slice(0, 2), media: 0xf0, rootEntries: 224 }],
    ['nothing in it', { ...FAT12, files: [], bad: [], rootEntries: 48 }],
    ['a full volume', { kind: 'fat12', clusters: 400, files: [{ name: 'A', clusters: ascending(2, 402) }] }],
  ])('%s', async (_, spec) => {
    const volume = fatVolume(spec);
    expect(await ask(fatFreeSpace, volume.disk)).toEqual(expectedRanges(volume));
    const answer = await fatFreeSpace(reader(volume.disk), wholeVolume(volume.disk.length));
    expect(answer).toMatchObject({ space: { kind: spec.kind } });
  });

  it('is read on a part of a disk', async () => {
    const volume = fatVolume(FAT32);
    expect(await ask(fatFreeSpace, volume.disk, MiB)).toEqual(expectedRanges(volume, MiB));
  });

  it('is not asked for on other volumes', async () => {
    expect(await ask(fatFreeSpace, Buffer.alloc(4096))).toBe('other');
    expect(await ask(fatFreeSpace, Buffer.alloc(100))).toBe('other');
  });
});

function ascending(from: number, end: number): number[] {
  return Array.from({ length: end - from }, (_, index) => from + index);
}

/** Patches the same place of both tables. */
function inTables(volume: ReturnType<typeof fatVolume>, at: number, value: number, width: 2 | 4): Patch[] {
  return [patch(at, value, width), patch(at + volume.fatBytes, value, width)];
}

describe('a FAT volume that was not left in order is kept', () => {
  const fat16 = fatVolume(FAT16);
  const fat32 = fatVolume(FAT32);
  const fat12 = fatVolume(FAT12);
  it.each<[string, typeof fat16, Patch[], string]>([
    ['FAT16 dirty', fat16, inTables(fat16, fat16.entryAt(1), 0x7fff, 2), 'unmounted'],
    ['FAT16 errors', fat16, inTables(fat16, fat16.entryAt(1), 0xbfff, 2), 'wants a check'],
    ['FAT32 dirty', fat32, inTables(fat32, fat32.entryAt(1), 0x07ffffff, 4), 'unmounted'],
    ['FAT32 errors', fat32, inTables(fat32, fat32.entryAt(1), 0x0bffffff, 4), 'wants a check'],
    ['FAT12 dirty in its boot sector', fat12, [patch(37, 1)], 'unmounted'],
    ['FAT16 dirty in its boot sector', fat16, [patch(37, 1)], 'unmounted'],
    ['FAT32 dirty in its boot sector', fat32, [patch(65, 1)], 'unmounted'],
  ])('%s', async (_, volume, patches, reason) => {
    expect(await ask(fatFreeSpace, patched(volume, ...patches))).toContain(reason);
  });
  it('hibernated', async () => {
    const file = { name: 'HIBERFILSYS', clusters: [500, 501], content: Buffer.from('hibr') };
    const { disk } = fatVolume({ ...FAT32, files: [...FILES, file] });
    expect(await fatFreeSpace(reader(disk), wholeVolume(disk.length))).toMatchObject({
      status: 'kept',
      hibernated: true,
    });
    const zeroed = fatVolume({ ...FAT32, files: [...FILES, { ...file, content: Buffer.alloc(4) }] });
    expect(await ask(fatFreeSpace, zeroed.disk)).toEqual(expectedRanges(zeroed));
  });
});

describe('a FAT volume that contradicts itself is kept', () => {
  const fat16 = fatVolume(FAT16);
  const fat32 = fatVolume(FAT32);
  const entry = (cluster: number, value: number) => inTables(fat16, fat16.entryAt(cluster), value, 2);
  it.each<[string, typeof fat16, Patch[], string]>([
    ['tables that differ', fat16, [patch(fat16.entryAt(4000), 7, 2)], 'differ'],
    ['a loop', fat16, entry(100, 20), 'number of clusters'],
    ['a loop in a folder', fat16, entry(60, 40), 'share clusters'],
    ['a chain into a free cluster', fat16, entry(21, 2500), 'called free'],
    ['a chain out of the volume', fat16, entry(21, 4202), 'impossible successor'],
    ['a chain into a bad cluster', fat16, entry(21, 0xfff7), 'impossible successor'],
    ['a chain too short', fat16, entry(21, 0xffff), 'number of clusters'],
    ['a file marked free', fat16, entry(70, 0), 'called free'],
    ['another media byte', fat16, [patch(21, 0xf0)], 'media byte'],
    ['clusters twice as large', fat16, [patch(13, 2)], 'called free'],
    ['three tables', fat16, [patch(16, 3)], 'unusual'],
    ['no root folder', fat16, [patch(17, 0, 2)], 'root folder'],
    ['a larger volume', fat16, [patch(32, 1 << 20, 4)], 'larger than its partition'],
    ['a shorter table', fat16, [patch(22, 16, 2)], 'too short'],
    ['a boot sector that differs from its copy', fat32, [patch(14, 33, 2)], 'copy'],
    ['FAT32 with too few clusters', fat32, [patch(32, 50_000, 4)], 'wrong type'],
    ['FAT32 of another version', fat32, [patch(42, 1, 2)], 'version'],
    ['one active table', fat32, [patch(40, 0x81, 2)], 'in use'],
    ['a root folder outside', fat32, [patch(44, 1, 4), patch(6 * 512 + 44, 1, 4)], 'cluster 1'],
    ['a folder that is none', fat16, [patch(fat16.clusterAt(40), 0x41)], 'is none'],
    ['rubbish in a folder', fat16, [patch(fat16.rootAt + 3, 1)], 'no entry'],
  ])('%s', async (_, volume, patches, reason) => {
    expect(await ask(fatFreeSpace, patched(volume, ...patches))).toContain(reason);
  });

  it('and one of which nothing tells where its clusters are', async () => {
    const short = [{ name: 'A', clusters: [5], size: 10 }];
    const strange = fatVolume({ kind: 'fat16', clusters: 4200, rootEntries: 496, files: short });
    expect(await ask(fatFreeSpace, strange.disk)).toContain('confirms');
    const single = fatVolume({ kind: 'fat16', clusters: 4200, copies: 1, files: short });
    expect(await ask(fatFreeSpace, single.disk)).toContain('confirms');
    const usual = fatVolume({ kind: 'fat16', clusters: 4200, files: short });
    expect(await ask(fatFreeSpace, usual.disk)).toEqual(expectedRanges(usual));
  });
});

describe('damage to a FAT volume', () => {
  const plain = [{ name: 'A', clusters: [5], size: 10 }];
  const specs: [string, FatSpec, number][] = [
    ['FAT12', FAT12, 400],
    ['FAT12 without folders', { ...FAT12, files: plain }, 400],
    ['FAT16', FAT16, 400],
    ['FAT16 with one table', { ...FAT16, copies: 1 }, 400],
    ['FAT32', FAT32, 60],
  ];
  const byte = fc.record({ at: fc.nat(), value: fc.nat(255), width: fc.constantFrom(1, 2, 4) });
  it.each(specs)('never gives back a used cluster: %s', async (_, spec, numRuns) => {
    const volume = fatVolume(spec);
    await fc.assert(
      fc.asyncProperty(fc.array(byte, { minLength: 1, maxLength: 2 }), async (bytes) => {
        const patches = bytes.map(({ at, value, width }) => ({
          offset: structureByte(volume, at),
          bytes: new Uint8Array(width).fill(value),
        }));
        expect((await damage(volume, fatFreeSpace, patches))?.lost).toBeUndefined();
      }),
      { seed: 5, numRuns },
    );
  });

  it.each(specs)('never gives back a used cluster: each field of the boot sector, %s', async (_, spec) => {
    const volume = fatVolume(spec);
    for (let at = 11; at < 52; at += 1) {
      for (const value of [0, 1, 2, 4, 8, 16, 64, 128, 240, 255]) {
        if (spec.kind === 'fat32' && value > 2) continue;
        const result = await damage(volume, fatFreeSpace, [patch(at, value)]);
        expect(result?.lost, `byte ${at} = ${value}`).toBeUndefined();
      }
    }
  });
});
