/** `convert --verify` where the target is not an ordinary copy: shared extents, and a block device. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../support/content.js';
import { loopDevice, type MountedFileSystem, mountNew } from '../support/mounts.js';
import { canLoop, canMount } from '../support/requires.js';
import { vhdkit, vhdkitJson } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { testFolder } from '../support/tmp.js';

const MiB = 1024 ** 2;

function writeDisk(file: string): void {
  const disk = Buffer.alloc(12 * MiB);
  seededBytes(5 * MiB, 11).copy(disk, 3 * MiB);
  writeFileSync(file, disk);
}

describe.skipIf(!canMount('xfs'))('on XFS (needs root and mkfs.xfs)', () => {
  let mounted: MountedFileSystem;
  beforeAll(() => {
    mounted = mountNew('xfs');
  });
  afterAll(() => mounted.unmount());

  test.each(['vhd', 'vhdx', 'raw'])('a %s that shares extents with its source', async (format) => {
    const raw = path.join(mounted.path, `${format}.source`);
    const target = path.join(mounted.path, `target.${format}`);
    writeDisk(raw);
    const args = ['convert', raw, target, '--provider', 'reflink', '--verify'];
    const report = (await vhdkitJson(args)) as { bytes: { shared: number }; sha256: string };
    expect(report.bytes.shared).toBeGreaterThan(0);
    expect(report).toMatchObject({ sha256: await sha256(raw), verified: { cacheDropped: true } });
  });
});

describe.skipIf(!canLoop())('onto a block device (needs root and loop devices)', () => {
  test('that is larger than the disk', async () => {
    const folder = testFolder('verify');
    const [raw, backing] = [path.join(folder, 'disk.raw'), path.join(folder, 'backing')];
    writeDisk(raw);
    writeFileSync(backing, Buffer.alloc(16 * MiB, 0x77));
    const device = loopDevice(backing);
    try {
      const report = await vhdkitJson(['convert', raw, device.path, '--force', '--verify']);
      expect(report).toMatchObject({ sha256: await sha256(raw), verified: { reader: 'vhdkit' } });
      const again = await vhdkit(['convert', raw, device.path, '--verify']);
      expect(again.status).toBe(1);
    } finally {
      device.detach();
    }
  });
});
