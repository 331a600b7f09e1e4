/**
 * Disks between sectors of 512 and of 4096 bytes, with sfdisk, sgdisk, e2fsck and the kernel as witnesses
 * on loop devices that have such sectors.
 */
import { truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { convert, expectIdentical } from '../support/convert.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { loopDevice, mountNew } from '../support/mounts.js';
import { canLoop, canMount, lacking } from '../support/requires.js';
import { must, run } from '../support/run.js';
import { makeSampleDisk, SAMPLE_DISK_TOOLS, type SampleDisk } from '../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MIB = 1024 * 1024;
const lacks = lacking(...SAMPLE_DISK_TOOLS, 'sgdisk', 'e2fsck', 'losetup');
const cannot = lacks || (canLoop() ? '' : ' (needs loop devices)');

interface Partition {
  start: number;
  size: number;
  type: string;
  uuid?: string;
  name?: string;
}

/** What sfdisk sees on a device with such sectors: places in bytes. */
async function partitionsOf(file: string, sectorSize: 512 | 4096): Promise<Partition[]> {
  const device = loopDevice(file, { readOnly: true, sectorSize });
  try {
    const { stdout } = await must('sfdisk', ['--json', device.path]);
    const { partitiontable } = JSON.parse(stdout) as {
      partitiontable: { sectorsize: number; partitions: (Partition & { node: string })[] };
    };
    expect(partitiontable.sectorsize).toBe(sectorSize);
    return partitiontable.partitions.map(({ node: _, start, size, ...rest }) => ({
      ...rest,
      start: start * sectorSize,
      size: size * sectorSize,
    }));
  } finally {
    device.detach();
  }
}

/** sgdisk's verdict on a device with such sectors. */
async function expectSound(file: string, sectorSize: 512 | 4096): Promise<void> {
  const device = loopDevice(file, { readOnly: true, sectorSize });
  try {
    const { stdout } = await must('sgdisk', ['-v', device.path]);
    expect(stdout).toContain('No problems found');
  } finally {
    device.detach();
  }
}

/** e2fsck and a mount of the ext4 partition, on a device with such sectors. */
async function expectReadable(file: string, sectorSize: 512 | 4096, offset: number): Promise<void> {
  const device = loopDevice(file, { readOnly: true, sectorSize });
  const point = makeTempFolder('mount');
  try {
    await must('e2fsck', ['-f', '-n', `${device.path}?offset=${offset}`]);
    await must('mount', ['-t', 'ext4', '-o', `ro,noload,loop,offset=${offset}`, device.path, point]);
    try {
      const { stdout } = await must('cat', [path.join(point, 'readme.txt')]);
      expect(stdout).toContain('A sample disk');
    } finally {
      await must('umount', [point]);
    }
  } finally {
    device.detach();
  }
}

async function bytesOf(
  file: string,
  { offset, length }: { offset: number; length: number },
): Promise<Buffer> {
  const handle = await open(file);
  try {
    const bytes = Buffer.alloc(length);
    await handle.read(bytes, 0, length, offset);
    return bytes;
  } finally {
    await handle.close();
  }
}

describe.skipIf(cannot)(`a GPT disk between sector sizes${cannot}`, () => {
  let disk: SampleDisk;

  beforeAll(async () => {
    disk = await makeSampleDisk(path.join(makeTempFolder('sectors'), 'disk.raw'), { sizeMiB: 32 });
  });

  it('goes from 512 to 4096 and back with the same partitions and contents', async () => {
    const folder = testFolder();
    const [vhdx, large, back] = ['large.vhdx', 'large.raw', 'back.raw'].map((name) =>
      path.join(folder, name),
    ) as [string, string, string];
    const before = await partitionsOf(disk.path, 512);
    expect(before).toHaveLength(1);

    const report = await convert(disk.path, vhdx, ['--sector-size', '4096', '--reblock']);
    expect(report).toMatchObject({ reblocked: { table: 'GPT', from: 512, to: 4096, partitions: 1 } });
    expect(await vhdkitJson(['info', vhdx])).toMatchObject({
      logicalSectorSize: 4096,
      physicalSectorSize: 4096,
    });
    await convert(vhdx, large);
    expect(await partitionsOf(large, 4096)).toEqual(before);
    await expectSound(large, 4096);
    await expectReadable(large, 4096, disk.partition.offset);
    const none = loopDevice(large, { readOnly: true, sectorSize: 512 });
    try {
      expect((await run('sgdisk', ['-v', none.path])).stdout).toContain('Creating new GPT entries');
    } finally {
      none.detach();
    }

    await convert(vhdx, back, ['--sector-size', '512', '--reblock']);
    expect(await partitionsOf(back, 512)).toEqual(before);
    await expectSound(back, 512);
    await expectReadable(back, 512, disk.partition.offset);
    const contents = await bytesOf(disk.path, disk.partition);
    expect((await bytesOf(back, disk.partition)).equals(contents)).toBe(true);
    expect((await bytesOf(large, disk.partition)).equals(contents)).toBe(true);
  });

  it.each([['fixed'], ['dynamic']])('goes from a VHDX of 4096 into a %s VHD', async (type) => {
    const folder = testFolder();
    const vhdx = path.join(folder, 'large.vhdx');
    const vhd = path.join(folder, 'small.vhd');
    const raw = path.join(folder, 'small.raw');
    await convert(disk.path, vhdx, ['--sector-size', '4096', '--reblock']);
    const refused = await vhdkit(['convert', vhdx, vhd, '--type', type]);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/GPT for 4096-byte sectors[\s\S]*--reblock/);
    await convert(vhdx, vhd, ['--type', type, '--reblock']);
    // qemu-img, not vhdkit, says what is in it.
    await must('qemu-img', ['convert', '-f', 'vpc', '-O', 'raw', vhd, raw]);
    expect(await partitionsOf(raw, 512)).toEqual(await partitionsOf(disk.path, 512));
    await expectSound(raw, 512);
    await expectReadable(raw, 512, disk.partition.offset);
  });

  it('that sgdisk made for 4096 becomes a VHDX of 4096 without being told', async () => {
    const folder = testFolder();
    const raw = path.join(folder, 'native.raw');
    writeFileSync(raw, '');
    truncateSync(raw, 32 * MIB);
    const device = loopDevice(raw, { sectorSize: 4096 });
    try {
      await must('sgdisk', ['-n', '1:256:0', '-c', '1:data', device.path]);
    } finally {
      device.detach();
    }
    const vhdx = path.join(folder, 'native.vhdx');
    await convert(raw, vhdx);
    expect(await vhdkitJson(['info', vhdx])).toMatchObject({ logicalSectorSize: 4096 });
    const back = path.join(folder, 'back.raw');
    await convert(vhdx, back);
    await expectIdentical(raw, back);
    const small = path.join(folder, 'small.raw');
    await convert(vhdx, small, ['--sector-size', '512', '--reblock']);
    expect(await partitionsOf(small, 512)).toEqual(await partitionsOf(raw, 4096));
    await expectSound(small, 512);
  });

  it('is refused by name when a partition can not be expressed, and nothing is left', async () => {
    const folder = testFolder();
    const raw = path.join(folder, 'odd.raw');
    writeFileSync(raw, '');
    truncateSync(raw, 32 * MIB);
    const table = 'label: gpt\nstart=2048, size=4096\nstart=8193, size=4095, name=odd\n';
    await must('sfdisk', ['--quiet', raw], { input: table });
    const target = path.join(folder, 'odd.vhdx');
    const result = await vhdkit(['convert', raw, target, '--sector-size', '4096', '--reblock']);
    expect(result.status).toBe(1);
    expect(result.stderr).toContain('partition 2 (odd) begins at byte 4194816');
    expect((await run('ls', [target])).status).not.toBe(0);
  });

  it.skipIf(!canMount('xfs'))('shares its payload all the same where the storage can', async () => {
    const storage = mountNew('xfs');
    try {
      const raw = path.join(storage.path, 'disk.raw');
      await must('cp', ['--sparse=always', disk.path, raw]);
      const vhdx = path.join(storage.path, 'large.vhdx');
      const args = ['--sector-size', '4096', '--reblock', '--provider', 'reflink'];
      const report = await convert(raw, vhdx, args);
      expect(report.bytes.kernelCopied).toBe(0);
      // Only the tables at both ends are written.
      expect(report.bytes.buffered).toBeLessThanOrEqual(64 * 1024);
      expect(report.bytes.shared).toBeGreaterThan(6 * MIB);
      const back = path.join(storage.path, 'back.raw');
      await convert(vhdx, back, ['--sector-size', '512', '--reblock']);
      expect((await bytesOf(back, disk.partition)).equals(await bytesOf(disk.path, disk.partition))).toBe(
        true,
      );
    } finally {
      storage.unmount();
    }
  });

  it('is rewritten in a stream and verified like any other', async () => {
    const folder = testFolder();
    const streamed = path.join(folder, 'streamed.vhdx');
    const args = ['--sector-size', '4096', '--reblock'];
    const stream = await vhdkit(['convert', disk.path, '-', '-O', 'vhdx', ...args]);
    expect(stream.status, stream.stderr).toBe(0);
    writeFileSync(streamed, stream.output);
    const verified = path.join(folder, 'verified.vhdx');
    await convert(disk.path, verified, [...args, '--verify']);
    const same = await vhdkit(['compare', streamed, verified]);
    expect(same.status, same.stderr).toBe(0);
    const large = path.join(folder, 'large.raw');
    await convert(streamed, large);
    await expectSound(large, 4096);
  });

  it('says so in words', async () => {
    const target = path.join(testFolder(), 'large.vhdx');
    const result = await vhdkit(['convert', disk.path, target, '--sector-size', '4096', '--reblock']);
    expect(result.stdout).toContain('GPT rewritten from 512 to 4096-byte sectors (1 partition)');
  });
});

describe.skipIf(cannot)(`an MBR disk with logical partitions between sector sizes${cannot}`, () => {
  it('goes from 512 to 4096 and back to the same bytes', async () => {
    const folder = testFolder();
    const raw = path.join(folder, 'disk.raw');
    writeFileSync(raw, '');
    truncateSync(raw, 64 * MIB);
    const table = [
      'label: dos',
      'start=2048, size=20480, type=83, bootable',
      'start=22528, size=20480, type=7',
      'start=45056, type=5',
      'start=47104, size=10240, type=83',
      'start=59392, size=10240, type=83',
      'start=71680, size=10240, type=82',
    ];
    await must('sfdisk', ['--quiet', raw], { input: `${table.join('\n')}\n` });
    const before = await partitionsOf(raw, 512);
    expect(before).toHaveLength(6);
    const large = path.join(folder, 'large.raw');
    const vhdx = path.join(folder, 'large.vhdx');
    await convert(raw, vhdx, ['--sector-size', '4096', '--reblock']);
    await convert(vhdx, large);
    expect(await partitionsOf(large, 4096)).toEqual(before);
    const back = path.join(folder, 'back.raw');
    await convert(vhdx, back, ['--sector-size', '512', '--reblock']);
    expect(await partitionsOf(back, 512)).toEqual(before);
    await expectIdentical(raw, back);
  });
});
