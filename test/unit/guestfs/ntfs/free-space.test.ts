/**
 * Free space of NTFS on volumes made by hand: what is read, what is kept and why, and damage anywhere.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ntfsFreeSpace } from '../../../../src/guestfs/ntfs/free-space.js';
import { MiB } from '../disks.js';
import { ask, damage, expectedRanges, type Patch, patch, patched, structureByte } from '../free-space-kit.js';
import { FIRST_FILE, type NtfsSpec, ntfsVolume } from './ntfs-volume.js';

const FILES = [
  {
    name: 'one',
    runs: [
      { lcn: 300, count: 5 },
      { lcn: 5000, count: 1 },
      { lcn: 290, count: 3 },
    ],
  },
  {
    name: 'sparse',
    runs: [
      { lcn: 6000, count: 8 },
      { lcn: undefined, count: 9 },
      { lcn: 11999, count: 1 },
    ],
  },
];
/** 64 clusters of $MFT and 3 of $Bitmap, in pieces, out of order. */
const FRAGMENTED: NtfsSpec = {
  files: FILES,
  mft: [
    { lcn: 4000, count: 44 },
    { lcn: 200, count: 20 },
  ],
  bitmap: [
    { lcn: 8000, count: 1 },
    { lcn: 70, count: 2 },
  ],
};

function reasonOf(spec: NtfsSpec): Promise<unknown> {
  return ask(ntfsFreeSpace, ntfsVolume(spec).disk);
}

describe('free space of NTFS', () => {
  const geometries: [string, NtfsSpec][] = [
    ['clusters of 512 bytes', {}],
    ['clusters of 4 KiB', { clusterBytes: 4096, clusters: 1003 }],
    [
      'sectors and records of 4 KiB',
      { clusterBytes: 4096, sectorBytes: 4096, recordBytes: 4096, clusters: 800 },
    ],
    [
      'records larger than clusters',
      { recordBytes: 4096, mft: [{ lcn: 100, count: 256 }], bitmap: [{ lcn: 9500, count: 3 }] },
    ],
    ['clusters of 128 KiB, a negative logarithm', { clusterBytes: 131072, clusters: 203 }],
    ['fragmented tables', FRAGMENTED],
    ['an attribute list in $MFT', { ...FRAGMENTED, split: ['mft'] }],
    ['an attribute list in $Bitmap', { ...FRAGMENTED, split: ['bitmap'] }],
    ['attribute lists in both', { ...FRAGMENTED, split: ['bitmap', 'mft'] }],
    ['a log without clients', { log: 'idle' }],
    ['an empty log', { log: 'empty' }],
  ];
  it.each(geometries)('is read with %s', async (_, spec) => {
    const volume = ntfsVolume(spec);
    expect(await ask(ntfsFreeSpace, volume.disk)).toEqual(expectedRanges(volume));
  });

  it('is read on a part of a disk', async () => {
    const volume = ntfsVolume({ files: FILES });
    expect(await ask(ntfsFreeSpace, volume.disk, MiB)).toEqual(expectedRanges(volume, MiB));
  });

  it('is read in a partition, without what lies past the last cluster', async () => {
    const { disk, ...volume } = ntfsVolume({ files: FILES });
    const larger = Buffer.concat([disk, Buffer.alloc(100_000)]);
    expect(await ask(ntfsFreeSpace, larger)).toEqual(expectedRanges({ disk, ...volume }));
    expect(await ask(ntfsFreeSpace, disk.subarray(0, 12000 * 512 - 512))).toContain(
      'larger than its partition',
    );
  });

  it('is not asked for on other volumes', async () => {
    expect(await ask(ntfsFreeSpace, Buffer.alloc(4096))).toBe('other');
    expect(await ask(ntfsFreeSpace, Buffer.alloc(100))).toBe('other');
  });
});

describe('an NTFS volume that was not left in order is kept', () => {
  it.each([
    [1, 'dirty'],
    [2, 'finish a change'],
    [4, 'finish a change'],
    [0x4000, 'chkdsk'],
  ])('volume flags %i', async (volumeFlags, reason) => {
    expect(await reasonOf({ volumeFlags })).toContain(reason);
  });
  it('harmless volume flags are none of that', async () => {
    expect(await reasonOf({ volumeFlags: 0x8088 })).toBeInstanceOf(Array);
  });
  it('an open log', async () => expect(await reasonOf({ log: 'open' })).toContain('log was not closed'));
  it('a newer restart page that is not clean', async () => {
    const volume = ntfsVolume();
    const newer = patch(volume.logAt + 4096 + 48, 101n, 8);
    expect(await ask(ntfsFreeSpace, patched(volume, newer))).toContain('log was not closed');
    expect(await ask(ntfsFreeSpace, patched(volume, patch(volume.logAt + 510, 0x1234, 2)))).toContain(
      'restart',
    );
  });

  const hiberfil = (text: string, size = 8192): NtfsSpec => ({
    files: [{ name: 'HiberFil.sys', runs: [{ lcn: 700, count: 16 }], content: Buffer.from(text), size }],
  });
  it.each(['hibr', 'HIBR', 'wake', 'RSTR', '\x01'])('hiberfil.sys with %j', async (text) => {
    expect(await reasonOf(hiberfil(text))).toContain('hibernated');
  });
  it('a short hiberfil.sys', async () => expect(await reasonOf(hiberfil('', 100))).toContain('hibernated'));
  it('but not for an empty hiberfil.sys', async () =>
    expect(await reasonOf(hiberfil(''))).toBeInstanceOf(Array));
  it('shadow copies', async () => {
    const provider = '{3808876B-c176-4e48-b7ae-04046e6cc752}';
    const named = (name: string) => reasonOf({ files: [{ name, runs: [{ lcn: 700, count: 16 }] }] });
    expect(await named(`{6f1c2b5e-0000-11ee-8f3a-00155d012345}${provider}`)).toContain('shadow copies');
    // What is there without any.
    expect(await named(provider)).toBeInstanceOf(Array);
  });
  it('a hibernated one with an open log says that Windows is hibernated', async () => {
    const { disk } = ntfsVolume({ ...hiberfil('hibr'), log: 'open' });
    const read = async (offset: number, length: number) => disk.subarray(offset, offset + length);
    const answer = await ntfsFreeSpace(read, { offset: 0, length: disk.length, name: 'x' });
    expect(answer).toMatchObject({ status: 'kept', hibernated: true });
  });
});

describe('an NTFS volume that contradicts itself is kept', () => {
  const volume = ntfsVolume(FRAGMENTED);
  const record = (number: number, at: number) => volume.recordAt(number) + at;
  /** Attributes of records 2, 6 and of files begin at 56 (files: after $FILE_NAME of 96 bytes). */
  const bitmapBit = (cluster: number): Patch => {
    const [first] = volume.bitmapRuns;
    const at = (first?.lcn ?? 0) * 512 + (cluster >> 3);
    return patch(at, (volume.disk[at] ?? 0) & ~(1 << (cluster & 7)));
  };
  it.each<[string, Patch[], string]>([
    ['a sector size of 513', [patch(11, 513, 2)], 'sector size'],
    ['a cluster size of 3 sectors', [patch(13, 3)], 'cluster size'],
    ['clusters of 4 MiB', [patch(13, 243)], 'cluster size'],
    ['$MFT outside', [patch(48, 12000n, 8)], '$MFT'],
    ['$MFT elsewhere', [patch(48, 4001n, 8)], 'file record 0'],
    ['no signature', [patch(510, 0, 2)], 'signature'],
    ['a torn record of a file', [patch(record(FIRST_FILE, 510), 0xffff, 2)], `record ${FIRST_FILE}`],
    ['a torn record 6', [patch(record(6, 1022), 0xffff, 2)], 'record 6 was written in part'],
    ['a marked record that is none', [patch(record(FIRST_FILE, 0), 0)], `record ${FIRST_FILE} is not one`],
    ['a mirror that differs', [patch(40 * 512 + 1024 + 16, 9)], '$MFTMirr'],
    ['a file cluster marked free', [bitmapBit(300)], `record ${FIRST_FILE} holds clusters`],
    ["$MFT's own cluster marked free", [bitmapBit(210)], 'record 0 holds clusters'],
    ['the boot file marked free', [bitmapBit(3)], 'record 7 holds clusters'],
    ['compressed $Bitmap', [patch(record(6, 56 + 12), 1, 2)], 'compressed'],
    ['encrypted $Bitmap', [patch(record(6, 56 + 12), 0x4000, 2)], 'encrypted'],
    ['a $Bitmap not initialised', [patch(record(6, 56 + 56), 8n, 8)], 'written to its end'],
    ['a short $Bitmap', [patch(record(6, 56 + 48), 8n, 8), patch(record(6, 56 + 56), 8n, 8)], 'too short'],
    ['a run list without end', [patch(record(6, 56 + 64), 0x11)], 'run list'],
    ['a run of no clusters', [patch(record(6, 56 + 65), 0)], 'run list'],
    ['an attribute of length 0', [patch(record(6, 56 + 4), 0, 4)], 'damaged attribute'],
    ['more clusters than $Bitmap has', [patch(40, 200_000n, 8)], 'larger than its partition'],
  ])('%s', async (_, patches, reason) => {
    expect(await ask(ntfsFreeSpace, patched(volume, ...patches))).toContain(reason);
  });

  it('tail bits that are clear', async () => {
    const short = ntfsVolume({ clusters: 11999 });
    const at = 60 * 512 + (11999 >> 3);
    expect(await ask(ntfsFreeSpace, patched(short, patch(at, 0)))).toContain('do not exist');
  });
  it('files that share a cluster', async () => {
    const shared = ntfsVolume({ files: [{ name: 'a', runs: [{ lcn: 300, count: 9 }] }, ...FILES] });
    expect(await ask(ntfsFreeSpace, shared.disk)).toContain('two of them');
  });
  it('an attribute list that names records of somebody else', async () => {
    const split = ntfsVolume({ ...FRAGMENTED, split: ['bitmap'] });
    const stranger = patch(split.recordAt(21) + 32, 7, 4);
    expect(await ask(ntfsFreeSpace, patched(split, stranger))).toContain('does not belong');
    // The second entry of the list names record 6 itself: a loop.
    const loop = patch(split.recordAt(6) + 56 + 24 + 32 + 16, 6, 4);
    expect(await ask(ntfsFreeSpace, patched(split, loop))).toContain('lacks an attribute');
  });
});

describe('damage to an NTFS volume', () => {
  const volumes = [ntfsVolume(FRAGMENTED), ntfsVolume({ ...FRAGMENTED, split: ['bitmap', 'mft'] })];
  const byte = fc.record({ at: fc.nat(), value: fc.nat(255), width: fc.constantFrom(1, 2, 4, 8) });
  it('never gives back a used cluster: bytes of any structure', async () => {
    let read = 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(1), fc.array(byte, { minLength: 1, maxLength: 3 }), async (which, bytes) => {
        const volume = volumes[which] ?? ntfsVolume();
        const patches = bytes.map(({ at, value, width }) => ({
          offset: structureByte(volume, at),
          bytes: new Uint8Array(width).fill(value),
        }));
        const result = await damage(volume, ntfsFreeSpace, patches);
        if (result) read += 1;
        expect(result?.lost).toBeUndefined();
      }),
      { seed: 5, numRuns: 500 },
    );
    // Damage that does not matter (to free records, say) leaves the volume readable.
    expect(read).toBeGreaterThan(20);
  });

  it('never gives back a used cluster: each byte of the records that count', async () => {
    const volume = volumes[1] ?? ntfsVolume();
    for (const number of [0, 3, 6, 20, 21, FIRST_FILE]) {
      for (let at = 0; at < 320; at += 2) {
        const offset = volume.recordAt(number) + at;
        const flipped = (volume.disk[offset] ?? 0) ^ (1 << ((at >> 1) % 8));
        const result = await damage(volume, ntfsFreeSpace, [patch(offset, flipped)]);
        expect(result?.lost, `record ${number}, byte ${at}`).toBeUndefined();
      }
    }
  });

  it('never gives back a used cluster: $Bitmap itself and its run lists', async () => {
    const volume = volumes[1] ?? ntfsVolume();
    const offsets = volume.bitmapRuns.flatMap(({ lcn = 0, count }) => {
      const bytes = [...volume.disk.subarray(lcn * 512, (lcn + count) * 512).entries()];
      return bytes.flatMap(([index, value]) => (value === 0 ? [] : [lcn * 512 + index]));
    });
    expect(offsets.length).toBeGreaterThan(20);
    for (const offset of offsets) {
      const result = await damage(volume, ntfsFreeSpace, [patch(offset, 0)]);
      expect(result?.lost, `byte ${offset}`).toBeUndefined();
    }
    // In record 6 the list (88 bytes) comes first.
    for (const pairs of [volume.recordAt(6) + 56 + 88 + 64, volume.recordAt(21) + 56 + 64]) {
      for (let at = 0; at < 4; at += 1) {
        for (let value = 0; value < 256; value += 3) {
          const result = await damage(volume, ntfsFreeSpace, [patch(pairs + at, value)]);
          expect(result?.lost, `run list, byte ${at} = ${value}`).toBeUndefined();
        }
      }
    }
  });
});
