/**
 * Where storage shares extents, converting moves no payload byte: vhdkit's own count says so, and
 * filefrag sees the shared extents.
 */
import { rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert, expectIdentical } from '../support/convert.js';
import { fileExtents } from '../support/fiemap.js';
import { IMAGE_KINDS, qemuConvert } from '../support/image-kinds.js';
import { vhdkit } from '../support/in-process.js';
import { type MountedFileSystem, mountNew } from '../support/mounts.js';
import { canMount, isRoot, lacking } from '../support/requires.js';
import { must } from '../support/run.js';
import { makeSampleDisk, SAMPLE_DISK_TOOLS, type SampleDisk } from '../support/sample-disk.js';

const lacksTools = lacking(...SAMPLE_DISK_TOOLS, 'qemu-img', 'filefrag');
const dynamicVhd = ['-O', 'vhd', '--type', 'dynamic'];
const MIB = 1024 * 1024;

describe.each(['xfs', 'btrfs'] as const)('on %s', (kind) => {
  const lacks = lacksTools || (canMount(kind) ? '' : ` (can't mount ${kind}${isRoot ? '' : ', needs root'})`);

  describe.skipIf(lacks)(`extents are shared${lacks}`, () => {
    let mounted: MountedFileSystem;
    let disk: SampleDisk;
    const at = (name: string): string => path.join(mounted.path, name);

    beforeAll(async () => {
      mounted = mountNew(kind, 512);
      disk = await makeSampleDisk(at('disk.raw'), { payloadMiB: 12 });
    });
    afterAll(() => mounted?.unmount());

    /** Converts and checks that all that is not zero was shared, by both witnesses. */
    async function expectShared(source: string, target: string, args: string[] = []): Promise<void> {
      const report = await convert(source, target, args);
      const { shared, kernelCopied, buffered, zeroed } = report.bytes;
      expect({ kernelCopied, buffered }).toEqual({ kernelCopied: 0, buffered: 0 });
      expect(shared).toBeGreaterThan(12 * MIB);
      expect(shared + zeroed).toBe(disk.size);
      const extents = await fileExtents(target);
      expect(extents.shared).toBeGreaterThan(12 * MIB);
      // What the target has for itself is its own tables and headers.
      expect(extents.own).toBeLessThan(6 * MIB);
    }

    it.each(IMAGE_KINDS.filter((item) => item.extension === 'vhdx'))(
      'from a $name of qemu-img to raw',
      async (item) => {
        await qemuConvert(disk.path, item, at('source.vhdx'));
        await expectShared(at('source.vhdx'), at('target.raw'));
        await expectIdentical(disk.path, at('target.raw'));
        for (const name of ['source.vhdx', 'target.raw']) rmSync(at(name));
      },
    );

    it('from raw to a dynamic VHD and back: the payload is aligned', async () => {
      await expectShared(disk.path, at('own.vhd'), dynamicVhd);
      await expectShared(at('own.vhd'), at('back.raw'));
      await expectIdentical(disk.path, at('back.raw'));
    });

    it('from raw to VHDX and back', async () => {
      await expectShared(disk.path, at('own.vhdx'), ['--type', 'dynamic']);
      await expectShared(at('own.vhdx'), at('back2.raw'));
      await expectIdentical(disk.path, at('back2.raw'));
    });

    it('and a target that is overwritten later leaves its source as it was', async () => {
      await convert(disk.path, at('kept.vhdx'), ['--type', 'dynamic']);
      await convert(at('kept.vhdx'), at('changed.raw'));
      await convert(at('changed.raw'), at('reference.raw'), ['--provider', 'buffered']);
      const overwrite = ['if=/dev/urandom', `of=${at('changed.raw')}`, 'bs=1M', 'count=32', 'conv=notrunc'];
      await must('dd', [...overwrite, 'status=none']);
      await convert(at('kept.vhdx'), at('again.raw'));
      await expectIdentical(at('again.raw'), at('reference.raw'));
    });

    it('--provider buffered reads and writes instead, with the same bytes', async () => {
      const report = await convert(at('own.vhdx'), at('buffered.raw'), ['--provider', 'buffered']);
      expect(report.bytes.shared + report.bytes.kernelCopied).toBe(0);
      expect(report.bytes.buffered).toBeGreaterThan(12 * MIB);
      await expectIdentical(disk.path, at('buffered.raw'));
    });

    it('--provider skip-1 copies in the kernel, skip-2 reads and writes, also what tokens stand for', async () => {
      await must('truncate', ['-s', `${disk.size}`, at('written.raw')]);
      const tokens = ['--token-store', at('store')];
      await vhdkit(['token', 'read', at('own.vhdx'), '-o', at('t.tok'), ...tokens]);
      const means = { 'skip-1': 'kernelCopied', 'skip-2': 'buffered' } as const;
      for (const provider of ['skip-1', 'skip-2'] as const) {
        const report = await convert(at('own.vhdx'), at(`${provider}.raw`), ['--provider', provider]);
        const args = [at('t.tok'), at('written.raw'), ...tokens, '--provider', provider, '--json'];
        const written = JSON.parse((await vhdkit(['token', 'write', ...args])).stdout) as typeof report;
        for (const { bytes } of [report, written]) {
          expect(bytes.shared).toBe(0);
          expect(bytes[means[provider]]).toBeGreaterThan(12 * MIB);
          if (provider === 'skip-2') expect(bytes.kernelCopied).toBe(0);
        }
        await expectIdentical(disk.path, at(`${provider}.raw`));
        await expectIdentical(disk.path, at('written.raw'));
      }
    });

    it('VHDKIT_NO_NATIVE=1 can share nothing, and the bytes are the same', async () => {
      const report = await convert(at('own.vhdx'), at('plain.raw'), [], { VHDKIT_NO_NATIVE: '1' });
      expect(report.bytes.buffered).toBeGreaterThan(12 * MIB);
      await expectIdentical(disk.path, at('plain.raw'));
    });
  });
});

const ext4Lacks = lacksTools || (canMount('ext4') ? '' : " (can't mount ext4)");
describe.skipIf(ext4Lacks)(`on ext4, which shares nothing${ext4Lacks}`, () => {
  it('--provider reflink refuses instead of copying, and leaves no target', async () => {
    const mounted = mountNew('ext4');
    try {
      const disk = await makeSampleDisk(path.join(mounted.path, 'disk.raw'));
      const target = path.join(mounted.path, 'disk.vhdx');
      const result = await vhdkit(['convert', disk.path, target, '--provider', 'reflink', '--json']);
      expect(result.status).toBe(1);
      const { error } = JSON.parse(result.stdout) as { error: { code: string } };
      expect(error.code).toBe('OFFLOAD_UNSUPPORTED');
      expect((await vhdkit(['info', target])).status).toBe(1);
    } finally {
      mounted.unmount();
    }
  });
});
