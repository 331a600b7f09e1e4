/**
 * defrag on images that qemu wrote out of order: qemu reads the same afterwards. On storage that shares
 * extents nothing is copied; with --host the file itself is in fewer pieces.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  statSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { countPhysicalExtents } from '../../src/io/file-extents.js';
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { loopDevice, mountedFileSystem } from '../support/mounts.js';
import { canLoop, canMount, lacking } from '../support/requires.js';
import { must } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

const MiB = 1024 * 1024;
const lacks = lacking('qemu-img', 'qemu-io');

interface Defragmented {
  before: { fragmentation: { percent: number }; payloadAlignment: number; hostExtents?: number };
  after: Defragmented['before'] & { fragmentation: { percent: number; extents: number } };
  moved: { units: number; bytes: number };
  bytes: { shared: number; kernelCopied: number; buffered: number };
  hostLayout?: { replaced: boolean; reason?: string; bytes: { buffered: number } };
}

function defrag(image: string, ...args: string[]): Promise<Defragmented> {
  return vhdkitJson(['defrag', image, ...args]) as unknown as Promise<Defragmented>;
}

const SUBJECTS: [name: string, format: string, file: string, block: number, options: string[]][] = [
  ['VHD', 'vpc', 'a.vhd', 2 * MiB, ['-o', 'subformat=dynamic']],
  ['VHDX', 'vhdx', 'a.vhdx', MiB, ['-o', 'block_size=1M']],
];

/** 40 of 60 blocks, written in an order of their own. */
async function written(file: string, format: string, block: number, options: string[]): Promise<void> {
  await must('qemu-img', ['create', '-q', '-f', format, ...options, file, String(60 * block)]);
  const order = Array.from({ length: 40 }, (_, index) => (index * 17) % 60);
  const commands = order.map((at) => `write -q -P ${at + 1} ${at * block} 1M`);
  await must('qemu-io', ['-f', format, file], { input: `${commands.join('\n')}\n` });
}

describe.skipIf(lacks)(`defrag of images that qemu wrote${lacks}`, () => {
  it.each(SUBJECTS)('%s', async (_name, format, file, block, options) => {
    const folder = testFolder('defrag');
    const image = path.join(folder, file);
    await written(image, format, block, options);
    const old = path.join(folder, `old-${file}`);
    await must('cp', [image, old]);
    const foreseen = await defrag(image, '--dry-run');
    await must('cmp', [image, old]);
    const done = await defrag(image);
    expect(done.before.fragmentation.percent).toBeGreaterThan(80);
    expect(done.after.fragmentation).toEqual({ percent: 0, extents: 1 });
    expect(done.after.payloadAlignment).toBeGreaterThanOrEqual(4096);
    expect(foreseen.after.fragmentation).toEqual(done.after.fragmentation);
    // A unit that has to make room counts twice.
    expect(done.moved.units).toBeGreaterThanOrEqual(foreseen.moved.units);
    expect(done.moved.units).toBeLessThanOrEqual(2 * foreseen.moved.units);
    await must('qemu-img', ['compare', old, image]);
    if (format === 'vhdx') await must('qemu-img', ['check', '-q', image]);
    const { mtimeMs } = statSync(image);
    expect((await defrag(image)).moved.units).toBe(0);
    expect(statSync(image).mtimeMs).toBe(mtimeMs);
  });
});

describe.each(['xfs', 'btrfs'] as const)('defrag and compact on %s', (kind) => {
  const missing = lacks || (canMount(kind) ? '' : ' (needs mounts)');
  it.skipIf(missing).each(SUBJECTS)(
    `%s: no payload is copied${missing}`,
    async (_name, format, file, block, options) => {
      const mounted = mountedFileSystem(kind, 400);
      if (!mounted) throw new Error('not mounted');
      try {
        const image = path.join(mounted.path, file);
        await written(image, format, block, options);
        // As qemu lays a VHD out its payload can't be shared; the first run aligns it.
        const aligned = await defrag(image);
        const wanted = (await vhdkitJson(['hash', image])).sha256;
        if (format === 'vhdx') expect(aligned.bytes.kernelCopied + aligned.bytes.buffered).toBe(0);
        const writes = [59, 3, 41].map((at) => `write -q -P 0 ${((at * 17) % 60) * block} 1M`);
        await must('qemu-io', ['-f', format, image], { input: `${writes.join('\n')}\n` });
        const small = await vhdkitJson(['compact', image]);
        const { reclaimed, moved, bytes } = small as unknown as {
          reclaimed: { zeros: number };
          moved: { units: number };
          bytes: Defragmented['bytes'];
        };
        expect(reclaimed.zeros).toBeGreaterThanOrEqual(block);
        expect(moved.units).toBeGreaterThan(0);
        const bitmaps = format === 'vpc' ? moved.units * 4096 : 0;
        expect(bytes.kernelCopied + bytes.buffered).toBeLessThanOrEqual(bitmaps);
        expect(bytes.shared).toBeGreaterThan(0);
        const ordered = await defrag(image);
        expect(ordered.moved.units).toBeGreaterThan(0);
        expect(ordered.bytes.kernelCopied + ordered.bytes.buffered).toBeLessThanOrEqual(
          format === 'vpc' ? ordered.moved.units * 4096 : 0,
        );
        expect(ordered.after.fragmentation.percent).toBe(0);
        expect((await vhdkitJson(['hash', image])).sha256).not.toBe(wanted);
        await must('qemu-img', ['compare', image, image]);
      } finally {
        mounted.unmount();
      }
    },
  );
});

const lacksHost = canMount('ext4') ? '' : ' (needs mounts)';

/** Written in an order of its own, a file ends up in many extents; one piece stays a hole. */
function scatter(file: string, pieces: number): void {
  const fd = openSync(file, 'w');
  const length = 256 * 1024;
  for (let index = 0; index < pieces; index += 1) {
    const piece = (index * 17) % pieces;
    if (piece === 5) continue;
    writeSync(fd, Buffer.alloc(length, piece + 1), 0, length, piece * length);
    fsyncSync(fd);
  }
  closeSync(fd);
}

async function extentsOf(file: string): Promise<number> {
  const opened = await nodeFileSystem.open(file);
  const count = countPhysicalExtents(opened) ?? 0;
  await opened.close();
  return count;
}

describe.skipIf(lacksHost)(`defrag --host${lacksHost}`, () => {
  it('brings a scattered file into fewer extents; content, holes, mode and owner stay', async () => {
    const mounted = mountedFileSystem('ext4');
    if (!mounted) throw new Error('not mounted');
    try {
      const image = path.join(mounted.path, 'a.raw');
      scatter(image, 161);
      chmodSync(image, 0o640);
      chownSync(image, 1234, 1234);
      const content = readFileSync(image);
      const { blocks } = statSync(image);
      const many = await extentsOf(image);
      expect(many).toBeGreaterThan(4);
      expect((await vhdkitJson(['defrag', image, '--host', '--dry-run'])).hostLayout).toBeUndefined();
      const done = await defrag(image, '--host');
      expect(done.hostLayout?.replaced).toBe(true);
      expect(done.before.hostExtents).toBe(many);
      expect(done.after.hostExtents).toBeLessThan(many);
      expect(await extentsOf(image)).toBe(done.after.hostExtents);
      expect(readFileSync(image).equals(content)).toBe(true);
      expect(statSync(image)).toMatchObject({ mode: 0o100640, uid: 1234, gid: 1234 });
      // The hole is still one.
      expect(statSync(image).blocks).toBeLessThanOrEqual(blocks);
      const { ino } = statSync(image);
      const again = await defrag(image, '--host');
      if (done.after.hostExtents === 1) expect(again.hostLayout?.reason).toContain('one piece');
      expect(again.hostLayout?.replaced).toBe(false);
      expect(statSync(image).ino).toBe(ino);
    } finally {
      mounted.unmount();
    }
  });

  it('is not possible for files with other names, and says so', async () => {
    const mounted = mountedFileSystem('ext4');
    if (!mounted) throw new Error('not mounted');
    try {
      const image = path.join(mounted.path, 'a.raw');
      scatter(image, 20);
      await must('ln', [image, path.join(mounted.path, 'link')]);
      const { ino } = statSync(image);
      const { hostLayout } = await defrag(image, '--host');
      expect(hostLayout).toMatchObject({ replaced: false, reason: expect.stringContaining('2 names') });
      expect(statSync(image).ino).toBe(ino);
    } finally {
      mounted.unmount();
    }
  });

  it.skipIf(!canLoop())('refuses devices', async () => {
    const file = path.join(testFolder('defrag'), 'a.raw');
    await must('truncate', ['-s', '16M', file]);
    const device = loopDevice(file);
    try {
      const result = await vhdkit(['defrag', device.path, '--host', '--from', 'raw']);
      expect(result.status).not.toBe(0);
      expect(result.stderr).toContain('is no file');
    } finally {
      device.detach();
    }
  });
});
