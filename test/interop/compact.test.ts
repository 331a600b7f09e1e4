/**
 * compact on disks with guest file systems: everything that is used is the same afterwards, and what was
 * deleted is gone from the image.
 */
import { copyFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { filesOf, type Guest, type GuestShape, makeGuest } from '../support/guest-images.js';
import { vhdkitJson } from '../support/in-process.js';
import { canLoop, canMount, fuse, lacking } from '../support/requires.js';
import { must } from '../support/run.js';
import { makeTempFolder } from '../support/tmp.js';

const MiB = 1024 * 1024;
const KEPT = 1.15;

interface Compacted {
  before: { fileSize: number; allocatedBytes: number };
  after: { fileSize: number; allocatedBytes: number; allocatedBlocks: number };
  reclaimed: { zeros: number; freeSpace: number; insideBlocks: number; slack: number };
  volumes: { kind: string; verdict: string; reason?: string }[];
  moved: { units: number; bytes: number };
}

function compact(image: string, ...args: string[]): Promise<Compacted> {
  return vhdkitJson(['compact', image, '--free-space', ...args]) as unknown as Promise<Compacted>;
}

/** The disk as another program reads it. */
async function exported(image: string): Promise<string> {
  const raw = `${image}.out.raw`;
  await must('qemu-img', ['convert', '-O', 'raw', image, raw]);
  return raw;
}

const lacks = lacking('qemu-img', 'losetup') || (canLoop() ? '' : ' (needs loop devices)');

const ext4: GuestShape = { kind: 'ext4', mib: 700, files: 30, fileMib: 10 };
const lacksExt4 = lacks || lacking('mke2fs', 'e2fsck') || (canMount('ext4') ? '' : ' (needs mounts)');

describe.skipIf(lacksExt4)(`compact of ext4 without a partition table, as WSL has it${lacksExt4}`, () => {
  let guest: Guest;
  let folder: string;

  beforeAll(async () => {
    folder = makeTempFolder('compact');
    guest = await makeGuest(path.join(folder, 'guest.raw'), ext4);
  }, 60_000);

  const FORMATS: [name: string, file: string, args: string[]][] = [
    ['VHDX with blocks of 1 MiB', 'a.vhdx', ['--block-size', '1M']],
    ['VHDX with blocks of 32 MiB', 'b.vhdx', ['--block-size', '32M']],
    ['VHD', 'a.vhd', []],
  ];

  it.each(FORMATS)('%s', async (_name, file, args) => {
    const image = path.join(folder, file);
    await vhdkitJson(['convert', guest.raw, image, '--zeros', 'holes', ...args]);
    const bytes = statSync(image);
    const foreseen = await compact(image, '--dry-run');
    expect(statSync(image).mtimeMs).toBe(bytes.mtimeMs);
    const done = await compact(image);
    expect(done.after.allocatedBytes).toBeLessThanOrEqual(KEPT * guest.used);
    if (!args.includes('32M')) expect(done.after.fileSize).toBeLessThanOrEqual(KEPT * guest.used);
    expect(done.volumes).toMatchObject([{ kind: 'ext4', verdict: 'read' }]);
    expect(foreseen.after.fileSize).toBe(done.after.fileSize);
    expect(foreseen.reclaimed).toEqual(done.reclaimed);
    expect(foreseen.moved).toEqual(done.moved);
    expect(Math.abs(foreseen.after.allocatedBytes - done.after.allocatedBytes)).toBeLessThan(2 * MiB);
    expect(await filesOf(await exported(image), ext4)).toEqual(guest.hashes);
    // Nothing is left to do, and nothing is done.
    const { mtimeMs } = statSync(image);
    const again = await compact(image);
    expect(again.reclaimed).toEqual({ zeros: 0, freeSpace: 0, insideBlocks: 0, slack: 0 });
    expect(again.moved.units).toBe(0);
    expect(statSync(image).mtimeMs).toBe(mtimeMs);
  });

  it('raw: stays as long as it is, and becomes sparse', async () => {
    const image = path.join(folder, 'a.raw');
    await must('cp', ['--sparse=always', guest.raw, image]);
    const done = await compact(image);
    expect(done.after.fileSize).toBe(700 * MiB);
    expect(statSync(image).blocks * 512).toBeLessThanOrEqual(KEPT * guest.used);
    expect(await filesOf(image, ext4)).toEqual(guest.hashes);
  });

  it('into a new image, and the old one stays', async () => {
    const image = path.join(folder, 'c.vhdx');
    const target = path.join(folder, 'd.vhdx');
    await vhdkitJson(['convert', guest.raw, image, '--block-size', '1M']);
    const { mtimeMs, size } = statSync(image);
    await compact(image, '--to', target);
    expect(statSync(image)).toMatchObject({ mtimeMs, size });
    expect(statSync(target).size).toBeLessThanOrEqual(KEPT * guest.used);
    expect(await filesOf(await exported(target), ext4)).toEqual(guest.hashes);
  });

  it('a file system that is mounted or was not unmounted stays as it is', async () => {
    const image = path.join(folder, 'dirty.raw');
    copyFileSync(guest.raw, image);
    await must('debugfs', ['-w', '-R', 'ssv state 0', image]);
    const before = path.join(folder, 'before.raw');
    copyFileSync(image, before);
    const done = await compact(image);
    expect(done.volumes).toMatchObject([{ kind: 'ext4', verdict: 'kept', reason: expect.any(String) }]);
    expect(done.reclaimed).toMatchObject({ freeSpace: 0, insideBlocks: 0 });
    await must('cmp', [before, image]);
  });
});

const OTHERS: [shape: GuestShape, missing: string][] = [
  [
    { kind: 'ntfs', mib: 200, files: 30, fileMib: 3, gpt: true },
    lacking('mkntfs', 'ntfs-3g', 'ntfsfix', 'sfdisk') || (fuse ? '' : ' (needs FUSE)'),
  ],
  [
    { kind: 'xfs', mib: 320, files: 30, fileMib: 3, gpt: true },
    lacking('mkfs.xfs', 'sfdisk') || (canMount('xfs') ? '' : ' (needs mounts)'),
  ],
  [
    { kind: 'exfat', mib: 160, files: 30, fileMib: 3 },
    lacking('mkfs.exfat', 'fsck.exfat', 'mount.exfat-fuse') || (fuse ? '' : ' (needs FUSE)'),
  ],
  [{ kind: 'fat32', mib: 160, files: 30, fileMib: 3, gpt: true }, lacking('mkfs.fat', 'mcopy', 'sfdisk')],
];

for (const [shape, missing] of OTHERS) {
  const { kind, gpt } = shape;
  describe.skipIf(lacks || missing)(`compact of ${kind}${gpt ? ' in a GPT' : ''}${lacks || missing}`, () => {
    it('VHDX with blocks of 1 MiB', async () => {
      const folder = makeTempFolder('compact');
      const guest = await makeGuest(path.join(folder, 'guest.raw'), shape);
      const image = path.join(folder, 'a.vhdx');
      await vhdkitJson(['convert', guest.raw, image, '--block-size', '1M']);
      const done = await compact(image);
      expect(done.volumes).toMatchObject([{ kind, verdict: 'read' }]);
      expect(done.reclaimed.freeSpace).toBeGreaterThan(1.6 * guest.used);
      // Tables and logs, of the image and of the file system, count less on disks of a usual size.
      const tables = 14 * MiB;
      const fragments = shape.files / 3;
      expect(done.after.allocatedBytes).toBeLessThanOrEqual(KEPT * guest.used + tables);
      expect(done.after.fileSize).toBeLessThanOrEqual(guest.used + fragments * MiB + tables);
      expect(await filesOf(await exported(image), shape)).toEqual(guest.hashes);
    });
  });
}
