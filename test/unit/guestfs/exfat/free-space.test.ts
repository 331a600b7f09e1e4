/**
 * Free space of exFAT on volumes made by hand: what is read, what is kept and why, and damage anywhere.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { exfatFreeSpace } from '../../../../src/guestfs/exfat/free-space.js';
import { MiB } from '../disks.js';
import { ask, damage, expectedRanges, type Patch, patch, patched, structureByte } from '../free-space-kit.js';
import { type ExfatFile, type ExfatSpec, entrySum, exfatVolume, sealBoot, sealed } from './exfat-volume.js';

const FILES: ExfatFile[] = [
  { name: 'empty', clusters: [] },
  { name: 'chain', clusters: [20, 21, 25, 24, 100] },
  { name: 'run', clusters: [30, 31, 32], noChain: true, size: 1300 },
  {
    name: 'folder',
    clusters: [40, 60],
    entries: [
      { name: 'inside', clusters: [70], size: 5 },
      { name: 'deeper', clusters: [90], noChain: true, entries: [{ name: 'x', clusters: [5001, 91] }] },
    ],
  },
];
/** Two clusters each of bitmap and root folder, apart from each other. */
const FRAGMENTED: ExfatSpec = { files: FILES, bitmap: [200, 2], root: [8, 400] };

describe('free space of exFAT', () => {
  it.each<[string, ExfatSpec]>([
    ['as it is formatted', {}],
    ['with files', { files: FILES, root: [8, 9] }],
    ['with fragmented tables', FRAGMENTED],
    ['with sectors of 4 KiB', { files: FILES.slice(0, 2), sectorShift: 12 }],
    ['with clusters of 32 KiB', { files: FILES.slice(0, 2), perClusterShift: 6, clusters: 777 }],
  ])('%s', async (_, spec) => {
    const volume = exfatVolume(spec);
    expect(await ask(exfatFreeSpace, volume.disk)).toEqual(expectedRanges(volume));
  });
  it('is read on a part of a disk', async () => {
    const volume = exfatVolume(FRAGMENTED);
    expect(await ask(exfatFreeSpace, volume.disk, MiB)).toEqual(expectedRanges(volume, MiB));
  });

  it('is not asked for on other volumes', async () => {
    expect(await ask(exfatFreeSpace, Buffer.alloc(4096))).toBe('other');
    expect(await ask(exfatFreeSpace, Buffer.alloc(100))).toBe('other');
  });
});

describe('an exFAT volume is kept', () => {
  it.each<[string, ExfatSpec, string]>([
    ['when dirty', { flags: 2 }, 'unmounted'],
    ['after media failures', { flags: 4 }, 'wants a check'],
    ['with its second table active', { flags: 1 }, 'TexFAT'],
    ['with two bitmaps', { twoBitmaps: true }, 'TexFAT'],
    [
      'when files share clusters',
      { files: [...FILES, { name: 'b', clusters: [20], noChain: true }], root: [8, 9] },
      'share',
    ],
    [
      'with a file out of it',
      { files: [{ name: 'b', clusters: [4998], noChain: true, size: 9999 }] },
      'exist',
    ],
    ['with a huge file', { files: [{ name: 'b', clusters: [9], size: 2 ** 50 }] }, 'larger than the volume'],
  ])('%s', async (_, spec, reason) => {
    expect(await ask(exfatFreeSpace, exfatVolume(spec).disk)).toContain(reason);
  });

  const volume = exfatVolume(FRAGMENTED);
  const next = (cluster: number, value: number): Patch => patch(volume.fatAt + cluster * 4, value, 4);
  const mark = (cluster: number, value: number): Patch =>
    patch(volume.bitmapAt + ((cluster - 2) >> 3), value);
  it.each<[string, Patch[], string]>([
    ['a boot sector changed', [patch(120, 1)], 'checksum'],
    ['a boot sector of other sizes', [patch(109, 30)], 'cluster size'],
    ['a loop in the root folder', [next(400, 8)], 'loop'],
    ['a loop in a folder', [next(60, 40)], 'too long'],
    ['a loop in the bitmap', [next(2, 200)], 'too long'],
    ['a chain too short', [next(24, 0xffffffff)], 'too short'],
    ['a chain out of the volume', [next(24, 5002)], 'does not exist'],
    ['a file marked free', [mark(70, 0)], 'calls free'],
    ['the root folder marked free', [mark(8, 0)], 'calls free'],
    ['a table that begins wrongly', [next(0, 0)], 'begins wrongly'],
    ['a file entry changed', [patch(volume.clusterAt(8) + 5 * 32 + 4, 1)], 'checksum of a file entry'],
    ['an entry that is not known', [patch(volume.clusterAt(8), 0x84)], 'not known'],
    ['no bitmap', [patch(volume.clusterAt(8) + 32, 0x01)], 'lacks'],
    ['a bitmap of another size', [patch(volume.clusterAt(8) + 32 + 24, 624, 2)], 'wrong size'],
  ])('for %s', async (_, patches, reason) => {
    expect(await ask(exfatFreeSpace, patched(volume, ...patches))).toContain(reason);
  });

  it.each<[string, Patch, string]>([
    ['two tables', patch(110, 2), 'TexFAT'],
    ['another version', patch(104, 0x200, 2), 'version'],
    ['more clusters', patch(92, 5001, 4), 'outside of it'],
    ['a shorter table', patch(84, 3, 4), 'does not fit'],
    ['a larger volume', patch(72, 9999, 8), 'larger than its partition'],
    ['fields of FAT', patch(20, 1), 'damaged'],
  ])('for a boot sector with %s', async (_, change, reason) => {
    expect(await ask(exfatFreeSpace, sealed(volume, change))).toContain(reason);
  });
});

describe('damage to an exFAT volume', () => {
  const volume = exfatVolume(FRAGMENTED);
  const byte = fc.record({ at: fc.nat(), value: fc.nat(255), width: fc.constantFrom(1, 2, 4, 8) });
  it('never gives back a used cluster: bytes of any structure', async () => {
    let read = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(byte, { minLength: 1, maxLength: 3 }), async (bytes) => {
        const patches = bytes.map(({ at, value, width }) => ({
          offset: structureByte(volume, at),
          bytes: new Uint8Array(width).fill(value),
        }));
        const result = await damage(volume, exfatFreeSpace, patches);
        if (result) read += 1;
        expect(result?.lost).toBeUndefined();
      }),
      { seed: 5, numRuns: 700 },
    );
    expect(read).toBeGreaterThan(20);
  });

  it('never gives back a used cluster: file entries with a checksum that fits', async () => {
    const copy: typeof volume = { ...volume, disk: Buffer.from(volume.disk) };
    const set = copy.clusterAt(8) + 5 * 32 + 96;
    for (let at = 0; at < 96; at += 1) {
      for (const value of [0, 1, 3, 0x40, 0x80, 0xff]) {
        const bytes = Uint8Array.from(copy.disk.subarray(set, set + 96));
        bytes[at] = value;
        new DataView(bytes.buffer).setUint16(2, entrySum(bytes), true);
        const result = await damage(copy, exfatFreeSpace, [{ offset: set, bytes }]);
        expect(result?.lost, `byte ${at} = ${value}`).toBeUndefined();
      }
    }
  });

  it('never gives back a used cluster: a boot sector with a checksum that fits', async () => {
    for (let at = 64; at < 112; at += 1) {
      for (const value of [0, 1, 2, 10, 13, 255]) {
        const disk = Buffer.from(volume.disk);
        disk[at] = value;
        sealBoot(disk);
        const result = await damage({ ...volume, disk }, exfatFreeSpace, []);
        expect(result?.lost, `byte ${at} = ${value}`).toBeUndefined();
      }
    }
  });
});
