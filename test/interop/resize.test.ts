/**
 * Resized images before other programs: sgdisk and sfdisk for the table, qemu-img, libvhdi and `check` for the
 * image, and the kernel for what is on the partition.
 */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { IMAGE_KINDS, qemuConvert } from '../support/image-kinds.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { qemuCheckComplaint, qemuVirtualSize, vhdiComplaint } from '../support/independent-readers.js';
import { loopDevice } from '../support/mounts.js';
import { canLoop, tool } from '../support/requires.js';
import { must } from '../support/run.js';
import {
  checkPartition,
  makeSampleDisk,
  SAMPLE_DISK_TOOLS,
  type SampleDisk,
} from '../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 * 1024;
const hasTools = [...SAMPLE_DISK_TOOLS, 'sgdisk', 'sfdisk', 'qemu-img', 'e2fsck'].every(tool);

let sample: SampleDisk;

beforeAll(async () => {
  if (hasTools)
    sample = await makeSampleDisk(path.join(makeTempFolder('resize'), 'disk.raw'), {
      sizeMiB: 24,
      payloadMiB: 3,
    });
});

/** sgdisk ends with 0 also when it finds problems. */
async function tableComplaint(file: string): Promise<string | undefined> {
  const { stdout } = await must('sgdisk', ['-v', file]);
  return stdout.includes('No problems found') ? undefined : stdout;
}

async function flatten(image: string, qemu: string): Promise<string> {
  const raw = `${image}.flat`;
  await must('qemu-img', ['convert', '-f', qemu, '-O', 'raw', image, raw]);
  return raw;
}

async function assertDisk(image: string, qemu: 'vpc' | 'vhdx' | 'raw', size: number): Promise<void> {
  expect(await qemuVirtualSize(image, qemu)).toBe(size);
  // 3 would be space in the file that nothing uses.
  if (qemu !== 'raw') expect((await vhdkit(['check', image])).status).toBe(0);
  if (qemu === 'vhdx') expect(await qemuCheckComplaint(image, qemu)).toBeUndefined();
  if (qemu === 'vpc' && tool('vhdiinfo')) expect(await vhdiComplaint(image, size)).toBeUndefined();
  const flat = qemu === 'raw' ? image : await flatten(image, qemu);
  expect(await tableComplaint(flat)).toBeUndefined();
  const { stderr, stdout } = await must('sfdisk', ['-l', flat]);
  expect(stderr).toBe('');
  expect(stdout).toContain('Disklabel type: gpt');
  await checkPartition(flat, sample.partition);
}

describe.skipIf(!hasTools)('a resized disk with a file system', () => {
  const kinds = [
    ...IMAGE_KINDS.map((kind) => ({ ...kind, writer: 'vhdkit' })),
    ...IMAGE_KINDS.filter(({ dynamic }) => dynamic).map((kind) => ({
      ...kind,
      writer: 'qemu-img',
    })),
  ];

  it.each(kinds)('$name by $writer', async (kind) => {
    const image = path.join(testFolder(), `disk.${kind.extension}`);
    if (kind.writer === 'qemu-img') await qemuConvert(sample.path, kind, image);
    else await vhdkitJson(['convert', sample.path, image, ...kind.vhdkit]);
    const grown = await vhdkitJson(['resize', image, '+40M', '--move-gpt']);
    expect(grown).toMatchObject({
      oldSize: 24 * MiB,
      virtualSize: 64 * MiB,
      gptBackup: 'moved',
      warnings: [],
    });
    await assertDisk(image, kind.qemu, 64 * MiB);
    expect(await vhdkitJson(['resize', image, '30M', '--move-gpt'])).toMatchObject({ lost: [] });
    await assertDisk(image, kind.qemu, 30 * MiB);
  });

  it('raw, as the kernel sees it', async () => {
    const image = path.join(testFolder(), 'disk.raw');
    await must('cp', [sample.path, image]);
    const left = await vhdkit(['resize', image, '64M']);
    expect(left).toMatchObject({ status: 0, stderr: expect.stringContaining('RESIZE_GPT_BACKUP') });
    expect(await tableComplaint(image)).toContain('problem');
    expect((await vhdkit(['resize', image, '+0', '--move-gpt'])).status).toBe(0);
    await assertDisk(image, 'raw', 64 * MiB);
    expect((await vhdkit(['resize', image, '-34M', '--move-gpt'])).status).toBe(0);
    await assertDisk(image, 'raw', 30 * MiB);
    const cut = await vhdkit(['resize', image, '20M', '--move-gpt']);
    expect(cut).toMatchObject({ status: 1, stderr: expect.stringMatching(/of partition 1\b.*\n.*--shrink/) });
    await assertDisk(image, 'raw', 30 * MiB);
  });
});

describe.skipIf(!tool('sfdisk') || !tool('sgdisk') || !canLoop())('a disk with 4096-byte sectors', () => {
  it('has a table that programs for such disks accept, after growing and shrinking', async () => {
    const image = path.join(testFolder(), 'disk.raw');
    writeFileSync(image, '');
    truncateSync(image, 64 * MiB);
    const onLoop = async (action: (device: string) => Promise<void>): Promise<void> => {
      const device = loopDevice(image, { sectorSize: 4096 });
      try {
        await action(device.path);
      } finally {
        device.detach();
      }
    };
    await onLoop(async (device) => {
      await must('sfdisk', ['-q', device], { input: 'label: gpt\nstart=256, size=4096, name=one\n' });
    });
    for (const size of ['96M', '32M']) {
      expect((await vhdkit(['resize', image, size, '--move-gpt'])).status).toBe(0);
      await onLoop(async (device) => expect(await tableComplaint(device)).toBeUndefined());
    }
    const refused = await vhdkit(['resize', image, '12M', '--move-gpt']);
    expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('partition 1 (one)') });
    expect(readFileSync(image).length).toBe(32 * MiB);
  });
});
