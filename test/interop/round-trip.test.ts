/**
 * A partitioned disk through every kind of image and back, with other programs as witnesses on the way.
 */
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { qemuDifference, sha256 } from '../support/content.js';
import { convert, expectIdentical } from '../support/convert.js';
import { IMAGE_KINDS, qemuConvert } from '../support/image-kinds.js';
import { vhdkitJson } from '../support/in-process.js';
import {
  qemuCheckComplaint,
  qemuVirtualSize,
  vhdiComplaint,
  vhdLibContentHash,
} from '../support/independent-readers.js';
import { lacking, tool } from '../support/requires.js';
import {
  checkPartition,
  makeSampleDisk,
  SAMPLE_DISK_TOOLS,
  type SampleDisk,
} from '../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const lacks = lacking(...SAMPLE_DISK_TOOLS, 'e2fsck', 'qemu-img');

describe.skipIf(lacks)(`a disk with an ext4 partition${lacks}`, () => {
  let disk: SampleDisk;

  beforeAll(async () => {
    disk = await makeSampleDisk(path.join(makeTempFolder('round-trip'), 'disk.raw'));
    await checkPartition(disk.path, disk.partition);
  });

  describe.each(IMAGE_KINDS)('raw to $name', (kind) => {
    it('and back gives the same bytes, and others agree on the image', async () => {
      const folder = testFolder();
      const image = path.join(folder, `disk.${kind.extension}`);
      const report = await convert(disk.path, image, kind.vhdkit);
      expect(report.virtualSize).toBe(disk.size);
      const { shared, kernelCopied, buffered, zeroed } = report.bytes;
      expect(shared + kernelCopied + buffered + zeroed).toBe(disk.size);

      const info = await vhdkitJson(['info', image]);
      expect(info).toMatchObject({ format: kind.extension, type: kind.dynamic ? 'dynamic' : 'fixed' });
      expect(await qemuVirtualSize(image, kind.qemu)).toBe(disk.size);
      const raw = { path: disk.path, format: 'raw' };
      expect(await qemuDifference({ path: image, format: kind.qemu }, raw)).toBeUndefined();
      if (kind.qemu === 'vhdx') expect(await qemuCheckComplaint(image, 'vhdx')).toBeUndefined();

      const back = path.join(folder, 'back.raw');
      await convert(image, back);
      await expectIdentical(disk.path, back);
      await checkPartition(back, disk.partition);
    });

    it.skipIf(!tool('vhdiinfo'))(`is accepted by libvhdi${lacking('vhdiinfo')}`, async () => {
      const image = path.join(testFolder(), `disk.${kind.extension}`);
      await convert(disk.path, image, kind.vhdkit);
      expect(await vhdiComplaint(image, disk.size)).toBeUndefined();
    });
  });

  it('as a dynamic VHD reads the same in vhd-lib', async () => {
    const image = path.join(testFolder(), 'disk.vhd');
    await convert(disk.path, image, ['--type', 'dynamic']);
    expect(await vhdLibContentHash(image)).toBe(await sha256(disk.path));
  });

  it.each(IMAGE_KINDS)('a $name that qemu-img wrote gives the same bytes', async (kind) => {
    const folder = testFolder();
    const image = path.join(folder, `disk.${kind.extension}`);
    await qemuConvert(disk.path, kind, image);
    // A fixed VHD has nothing at its head: without -f the footer alone must tell what it is.
    const info = await vhdkitJson(['info', image]);
    expect(info).toMatchObject({ format: kind.extension, type: kind.dynamic ? 'dynamic' : 'fixed' });
    const back = path.join(folder, 'back.raw');
    await convert(image, back);
    await expectIdentical(disk.path, back);
    await checkPartition(back, disk.partition);
  });

  it('keeps its contents from every kind to every other', async () => {
    const folder = testFolder();
    let previous = disk.path;
    for (const [step, kind] of [...IMAGE_KINDS, ...[...IMAGE_KINDS].reverse()].entries()) {
      const next = path.join(folder, `step-${step}.${kind.extension}`);
      await convert(previous, next, kind.vhdkit);
      previous = next;
    }
    const back = path.join(folder, 'back.raw');
    await convert(previous, back);
    await expectIdentical(disk.path, back);
  });

  it('has holes where the disk is zero: the raw file stores little more than the payload', async () => {
    const folder = testFolder();
    const image = path.join(folder, 'disk.vhdx');
    const back = path.join(folder, 'back.raw');
    await convert(disk.path, image, ['--type', 'fixed']);
    await convert(image, back);
    const { allocatedBytes } = (await vhdkitJson(['info', back])) as { allocatedBytes: number };
    expect(allocatedBytes).toBeGreaterThan(6 * 1024 * 1024);
    expect(allocatedBytes).toBeLessThan(16 * 1024 * 1024);
  });
});
