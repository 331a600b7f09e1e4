/**
 * In-place conversion on real file systems: what is shared, what is refused, and what other programs read.
 */
import { chmodSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sha256 } from '../support/content.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { vhdiComplaint, vhdLibContentHash } from '../support/independent-readers.js';
import { type FileSystemKind, type MountedFileSystem, mountNew } from '../support/mounts.js';
import { canMount, tool } from '../support/requires.js';
import { must } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';

const MiB = 1024 * 1024;
const SIZE = 20 * MiB;

function content(): Buffer {
  const disk = Buffer.alloc(SIZE);
  seededBytes(4 * MiB, 3).copy(disk, 5 * MiB);
  return disk;
}

interface Conversion {
  means: string;
  from: string;
  type: string;
  bytes: { shared: number; kernelCopied: number; buffered: number; zeroed: number };
  zerosGivenBack: number;
}

describe.each<FileSystemKind>(['xfs', 'btrfs'])('a VHD on %s', (kind) => {
  let mounted: MountedFileSystem | undefined;
  beforeAll(() => {
    if (canMount(kind)) mounted = mountNew(kind);
  });
  afterAll(() => mounted?.unmount());

  it.skipIf(!canMount(kind))(
    'changes its layout by sharing extents, keeping id, time, mode and children',
    async () => {
      const folder = mounted?.path ?? '';
      const raw = path.join(folder, 'disk.raw');
      const image = path.join(folder, 'disk.vhd');
      const disk = content();
      writeFileSync(raw, disk);
      await vhdkitJson(['convert', raw, image, '--zeros', 'scan']);
      chmodSync(image, 0o640);
      utimesSync(image, 1.6e9, 1.6e9);
      const { id } = await vhdkitJson(['info', image]);
      const dry = (await vhdkitJson([
        'convert',
        image,
        '--in-place',
        '--type',
        'fixed',
        '--dry-run',
      ])) as unknown as Conversion;
      expect(dry).toMatchObject({ means: 'sharedExtents', bytes: { shared: 4 * MiB } });
      for (const type of ['fixed', 'dynamic']) {
        const { ino } = statSync(image);
        const done = (await vhdkitJson([
          'convert',
          image,
          '--in-place',
          '--type',
          type,
        ])) as unknown as Conversion;
        expect(done).toMatchObject({
          type,
          means: 'sharedExtents',
          bytes: { shared: 4 * MiB, kernelCopied: 0, buffered: 0 },
        });
        const stat = statSync(image);
        expect(stat).toMatchObject({ mode: 0o100640, mtimeMs: 1.6e12 });
        expect(stat.ino).not.toBe(ino);
        expect(await vhdkitJson(['info', image])).toMatchObject({ id, type, virtualSize: SIZE });
        expect((await vhdkit(['check', image])).status).toBe(0);
        expect((await vhdkit(['compare', raw, image])).status).toBe(0);
        if (tool('vhdiinfo')) expect(await vhdiComplaint(image, SIZE)).toBeUndefined();
        if (type === 'fixed') expect(readFileSync(image).subarray(0, SIZE).equals(disk)).toBe(true);
        if (type === 'fixed') expect(stat.blocks * 512).toBeGreaterThanOrEqual(SIZE);
        else expect(await vhdLibContentHash(image)).toBe(await sha256(raw));
      }
      expect(readdirSync(folder).sort()).toEqual(['disk.raw', 'disk.vhd']);
    },
  );
});

describe.skipIf(!canMount('ext4'))('on ext4', () => {
  let mounted: MountedFileSystem | undefined;
  beforeAll(() => {
    mounted = mountNew('ext4');
  });
  afterAll(() => mounted?.unmount());

  it('a VHD is refused with what to do instead, and nothing is left', async () => {
    const folder = mounted?.path ?? '';
    const raw = path.join(folder, 'a.raw');
    const image = path.join(folder, 'a.vhd');
    writeFileSync(raw, content());
    await vhdkitJson(['convert', raw, image]);
    const before = readFileSync(image);
    const names = readdirSync(folder);
    const result = await vhdkit(['convert', image, '--in-place', '--type', 'fixed']);
    expect(result.status).toBe(1);
    expect(result.stderr).toContain('another layout');
    expect(result.stderr).toContain('--type fixed');
    expect(readFileSync(image).equals(before)).toBe(true);
    expect(readdirSync(folder)).toEqual(names);
  });

  it.skipIf(!tool('qemu-img'))(
    'a VHDX becomes fixed and dynamic again, and qemu-img reads the same',
    async () => {
      const folder = mounted?.path ?? '';
      const raw = path.join(folder, 'b.raw');
      const image = path.join(folder, 'b.vhdx');
      writeFileSync(raw, content());
      await vhdkitJson(['convert', raw, image, '--block-size', '1M']);
      for (const type of ['fixed', 'dynamic']) {
        expect((await vhdkit(['convert', image, '--in-place', '--type', type])).status).toBe(0);
        await must('qemu-img', ['check', '-f', 'vhdx', image]);
        await must('qemu-img', ['compare', '-f', 'raw', '-F', 'vhdx', raw, image]);
        const stored = statSync(image).blocks * 512;
        if (type === 'fixed') expect(stored).toBeGreaterThanOrEqual(SIZE);
        else expect(stored).toBeLessThan(12 * MiB);
      }
    },
  );
});
