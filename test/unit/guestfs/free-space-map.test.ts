import { describe, expect, it } from 'vitest';
import { readFreeSpace } from '../../../src/guestfs/free-space-map.js';
import { gptDisk, MiB, reader } from './disks.js';

const KiB = 1024;
const SIZE = 16 * MiB;
const FIRST = { offset: MiB, length: 4 * MiB };
const SECOND = { offset: 8 * MiB, length: 4 * MiB };

function disk(): Buffer {
  const bytes = gptDisk({ sectorSize: 512, size: SIZE, partitions: [FIRST, SECOND] });
  bytes.fill(0, FIRST.offset, FIRST.offset + FIRST.length);
  return bytes.fill(0, SECOND.offset, SECOND.offset + SECOND.length);
}

interface Swap {
  pageSize?: number;
  pages?: number;
  signature?: string;
  version?: number;
  badPages?: number;
}

function putSwap(bytes: Buffer, at: number, swap: Swap = {}): void {
  const { pageSize = 4096, pages = FIRST.length / pageSize, signature = 'SWAPSPACE2', version = 1 } = swap;
  bytes.writeUInt32LE(version, at + 1024);
  bytes.writeUInt32LE(pages - 1, at + 1028);
  bytes.writeUInt32LE(swap.badPages ?? 0, at + 1032);
  bytes.write(signature, at + pageSize - 10, 'latin1');
}

async function summary(bytes: Buffer): Promise<string[]> {
  const { reports, freeBytes, ranges } = await readFreeSpace(reader(bytes), bytes.length);
  const found: string[] = [];
  for await (const { offset, length } of ranges()) found.push(`${offset / KiB}+${length / KiB}`);
  expect(reports.reduce((sum, report) => sum + report.freeBytes, 0)).toBe(freeBytes);
  const lines = reports.map(
    ({ kind, reason, freeBytes: free }) => `${kind}: ${reason ?? `${free / KiB} free`}`,
  );
  return [...lines, ...found];
}

const NOTHING = 'unknown: its contents are not understood';

describe('swap areas', () => {
  it.each([4, 8, 16, 32, 64])('are free behind a header of %d KiB', async (kib) => {
    const bytes = disk();
    putSwap(bytes, FIRST.offset, { pageSize: kib * KiB, pages: (3 * MiB) / (kib * KiB) });
    expect(await summary(bytes)).toEqual([
      `swap: ${3 * KiB - kib} free`,
      NOTHING,
      `${KiB + kib}+${3 * KiB - kib}`,
    ]);
  });

  it.each<[string, Swap]>([
    ['a swap area of an old kind', { signature: 'SWAP-SPACE' }],
    ['a swap area of another version or byte order', { version: 0x01000000 }],
    ['it lists bad pages', { badPages: 1 }],
    ['it ends outside its volume', { pages: 1025 }],
    ['it ends outside its volume', { pages: 1 }],
  ])('stay: %s', async (reason, swap) => {
    const bytes = disk();
    putSwap(bytes, FIRST.offset, swap);
    expect(await summary(bytes)).toEqual([`swap: ${reason}`, NOTHING]);
  });

  it.each(['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001', '\xed\xc3\x02\xe9\x98\x56\xe5\x0c'])(
    'with a suspended system (%s) keep the whole disk',
    async (signature) => {
      const bytes = disk();
      putSwap(bytes, FIRST.offset, { signature });
      putSwap(bytes, SECOND.offset);
      expect(await summary(bytes)).toEqual([
        'swap: a suspended system is stored in it',
        'swap: a suspended system is stored on partition 1',
      ]);
    },
  );

  it('stay beside a file system that was not cleanly unmounted', async () => {
    const bytes = disk();
    putSwap(bytes, FIRST.offset);
    bytes.writeUInt16LE(0xef53, SECOND.offset + 1024 + 56);
    const [swap, ext] = await summary(bytes);
    expect(swap).toBe('swap: partition 2 was kept: the system may not be shut down');
    expect(ext).toMatch(/^ext2\/3\/4: |^ext2: /);
  });

  it('stay when something opaque is there too', async () => {
    const bytes = disk();
    putSwap(bytes, FIRST.offset);
    bytes.write('LUKS\xba\xbe', FIRST.offset, 'latin1');
    expect(await summary(bytes)).toEqual(['LUKS: its contents are opaque', NOTHING]);
  });
});

describe('opaque volumes', () => {
  const END = FIRST.length;
  it.each<[string, number, string]>([
    ['LUKS', 0, 'LUKS\xba\xbe'],
    ['LUKS', 16 * KiB, 'SKUL\xba\xbe'],
    ['BitLocker', 3, '-FVE-FS-'],
    ['LVM', 512, 'LABELONE'],
    ['Linux RAID', 4096, '\xfc\x4e\x2b\xa9'],
    ['Linux RAID', END - 8 * KiB, '\xfc\x4e\x2b\xa9'],
    ['Linux RAID', END - 64 * KiB, '\xfc\x4e\x2b\xa9'],
    ['Intel RAID', END - 1024, 'Intel Raid ISM Cfg Sig. 1.3.00'],
    ['DRBD', END - 4096 + 60, '\x83\x74\x02\x6b'],
    ['bcache', 4096 + 24, '\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81'],
    ['ZFS', 200 * KiB, '\x0c\xb1\xba\x00\x00\x00\x00\x00'],
    ['ReFS', 3, 'ReFS\0\0\0\0'],
    ['APFS', 32, 'NXSB'],
    ['VMFS', MiB, '\x0d\xd0\x01\xc0'],
  ])('are named: %s at %d', async (kind, at, magic) => {
    const bytes = disk();
    bytes.write(magic, FIRST.offset + at, 'latin1');
    expect(await summary(bytes)).toEqual([`${kind}: its contents are opaque`, NOTHING]);
  });

  it('are named by two bytes only when nothing else claims them', async () => {
    const bytes = disk();
    bytes.write('H+', FIRST.offset + 1024, 'latin1');
    expect((await summary(bytes))[0]).toBe('HFS+: its contents are not understood');
    bytes.write('SWAPSPACE2', FIRST.offset + 4096 - 10, 'latin1');
    expect((await summary(bytes))[0]).toMatch(/^swap: /);
  });
});
