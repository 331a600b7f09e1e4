/**
 * Disks as other programs divide them, and volumes that only they understand.
 */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readFreeSpace } from '../../src/guestfs/free-space-map.js';
import { freeByDumpe2fs } from '../support/dumpe2fs.js';
import { fileReader } from '../support/guest-disk.js';
import { loopDevice } from '../support/mounts.js';
import { canLoop, lacking } from '../support/requires.js';
import { must } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

const MIB = 1024 * 1024;

function emptyFile(mib: number): string {
  const file = path.join(testFolder('disk'), 'disk');
  writeFileSync(file, '');
  truncateSync(file, mib * MIB);
  return file;
}

interface Seen {
  volumes: string[];
  ranges: [number, number][];
}

async function look(file: string): Promise<Seen> {
  return fileReader(file, async (read, size) => {
    const { reports, ranges } = await readFreeSpace(read, size);
    const found: [number, number][] = [];
    for await (const { offset, length } of ranges()) found.push([offset, length]);
    const volumes = reports.map(({ volume, kind, reason }) => `${volume.name}: ${kind}: ${reason ?? 'read'}`);
    return { volumes, ranges: found };
  });
}

const onDisk = lacking('sfdisk', 'mke2fs', 'dumpe2fs', 'mkswap');

describe.skipIf(onDisk)(`divided disks${onDisk}`, () => {
  const TABLES: [name: string, lines: string[], names: [string, string, string]][] = [
    ['GPT', ['label: gpt', '1MiB 20MiB L', '24MiB 4MiB S', '32MiB 16MiB L'], ['1', '2', '3']],
    [
      'MBR with logical partitions',
      ['label: dos', '1MiB 20MiB L', '22MiB - E', '24MiB 4MiB S', '32MiB 16MiB L'],
      ['1', '5', '6'],
    ],
  ];

  it.each(TABLES)(
    '%s: each file system at its place, swap behind its header',
    async (_name, lines, names) => {
      const disk = emptyFile(64);
      await must('sfdisk', ['-q', disk], {
        input: `${lines.join('\n').replaceAll(' ', ',').replaceAll(':,', ': ')}\n`,
      });
      const small = emptyFile(20);
      await must('mke2fs', ['-q', '-F', '-t', 'ext2', small]);
      const swap = emptyFile(4);
      await must('mkswap', [swap]);
      const large = emptyFile(16);
      await must('mke2fs', ['-q', '-F', '-t', 'ext4', large]);
      const bytes = readFileSync(disk);
      for (const [file, mib] of [
        [small, 1],
        [swap, 24],
        [large, 32],
      ] as const)
        readFileSync(file).copy(bytes, mib * MIB);
      writeFileSync(disk, bytes);
      const shifted = async (file: string, mib: number): Promise<[number, number][]> =>
        (await freeByDumpe2fs(file)).map(([at, length]) => [at + mib * MIB, length]);
      expect(await look(disk)).toEqual({
        volumes: [
          `partition ${names[0]}: ext2: read`,
          `partition ${names[1]}: swap: read`,
          `partition ${names[2]}: ext4: read`,
        ],
        ranges: [
          ...(await shifted(small, 1)),
          [24 * MIB + 4096, 4 * MIB - 4096],
          ...(await shifted(large, 32)),
        ],
      });
    },
  );
});

const onLuks = lacking('cryptsetup', 'mke2fs');

describe.skipIf(onLuks)(`encrypted volumes${onLuks}`, () => {
  it.each(['luks1', 'luks2'])('%s over an old file system: opaque', async (type) => {
    const volume = emptyFile(32);
    await must('mke2fs', ['-q', '-F', '-t', 'ext4', volume]);
    const args = [
      '-q',
      'luksFormat',
      '--type',
      type,
      '--pbkdf',
      'pbkdf2',
      '--pbkdf-force-iterations',
      '1000',
    ];
    await must('cryptsetup', [...args, volume, '-'], { input: 'secret' });
    expect(await look(volume)).toEqual({
      volumes: ['whole disk: LUKS: its contents are opaque'],
      ranges: [],
    });
  });
});

const onLvm = lacking('pvcreate') || (canLoop() ? '' : ' (needs loop devices)');

describe.skipIf(onLvm)(`volume managers${onLvm}`, () => {
  it('LVM: opaque', async () => {
    const volume = emptyFile(32);
    const device = loopDevice(volume);
    try {
      await must('pvcreate', ['-q', '-y', '--config', 'devices{use_devicesfile=0}', device.path]);
    } finally {
      device.detach();
    }
    expect(await look(volume)).toEqual({ volumes: ['whole disk: LVM: its contents are opaque'], ranges: [] });
  });
});
