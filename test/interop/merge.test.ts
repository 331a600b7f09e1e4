/**
 * Merged chains as other programs see them: qemu-img finds in the target what libvhdi found through the
 * child before, and where storage shares extents, no byte of payload was copied.
 */
import { copyFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemHost } from '../../src/operations/host.js';
import { qemuDifference, sha256 } from '../support/content.js';
import { fileExtents } from '../support/fiemap.js';
import { vhdkitJson } from '../support/in-process.js';
import { qemuCheckComplaint } from '../support/independent-readers.js';
import { mountNew } from '../support/mounts.js';
import { canMount, fuse, lacking } from '../support/requires.js';
import { must, run } from '../support/run.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';
import { buildChainIn, type ChainShape } from '../unit/operations/merge/chains.js';

const MiB = 1024 * 1024;
const SECTORS = (24 * MiB) / 512;

/** Four images with whole blocks, sector runs and zeros in each. */
function shape(format: 'vhd' | 'vhdx'): ChainShape {
  const links = [0, 1, 2, 3].map((depth) => ({
    growth: 0,
    steps: [
      { kind: 'write' as const, at: 0.1 * depth, sectors: 9000, fill: 10 + depth },
      { kind: 'write' as const, at: 0.7 + 0.01 * depth, sectors: 30 + depth, fill: 20 + depth },
      { kind: 'zero' as const, at: 0.05 + 0.1 * depth, sectors: 100, fill: 1 },
    ],
  }));
  return { format, blockSize: 2 * MiB, baseType: 'dynamic', sectors: SECTORS, links };
}

/** Reads a chain with libvhdi: the last of the files that it shows is the child. */
async function readWithVhdi(child: string, raw: string): Promise<void> {
  const mountPoint = makeTempFolder('vhdi');
  await must('vhdimount', [child, mountPoint]);
  try {
    const last = readdirSync(mountPoint).sort().at(-1) ?? '';
    await must('cp', ['--sparse=always', path.join(mountPoint, last), raw]);
  } finally {
    await run('umount', [mountPoint]);
  }
}

const lacksVhdi = lacking('vhdimount', 'qemu-img') || (fuse ? '' : ' (needs FUSE)');

describe.skipIf(lacksVhdi).each([
  ['vhd', 'vpc'],
  ['vhdx', 'vhdx'],
] as const)(`a chain of four %s images${lacksVhdi}`, (format, qemuFormat) => {
  it('merged into its base is what libvhdi saw through the child', async () => {
    const folder = testFolder();
    const { paths } = await buildChainIn(systemHost(), folder, shape(format));
    const [child = '', base = ''] = [paths[0], paths.at(-1)];
    const before = path.join(folder, 'before.raw');
    await readWithVhdi(child, before);
    const result = await vhdkitJson(['merge', child, '--to', base, '--delete']);
    expect(result).toMatchObject({ merged: paths.slice(0, 3), target: base, relinked: [], stale: [] });
    const difference = await qemuDifference(
      { path: base, format: qemuFormat },
      { path: before, format: 'raw' },
    );
    expect(difference).toBeUndefined();
    if (format === 'vhdx') expect(await qemuCheckComplaint(base, 'vhdx')).toBeUndefined();
  });

  it('merged into the image in the middle leaves a chain that libvhdi reads as before', async () => {
    const folder = testFolder();
    const { paths } = await buildChainIn(systemHost(), folder, shape(format));
    const [child = '', , middle = ''] = paths;
    const [before, after] = [path.join(folder, 'before.raw'), path.join(folder, 'after.raw')];
    await readWithVhdi(child, before);
    await vhdkitJson(['merge', child, '--to', middle]);
    for (const image of [child, middle]) {
      await readWithVhdi(image, after);
      expect({ image, sha256: await sha256(after) }).toEqual({ image, sha256: await sha256(before) });
    }
  });
});

describe.each(['xfs', 'btrfs'] as const)('on %s', (kind) => {
  const lacks = lacking('filefrag', 'qemu-img') || (canMount(kind) ? '' : ` (can't mount ${kind})`);

  it.skipIf(lacks).each(['vhd', 'vhdx'] as const)(
    `no payload of %s images is copied${lacks}`,
    async (format) => {
      const mounted = mountNew(kind, 512);
      try {
        const writes = (fill: number, at: number) => ({ kind: 'write' as const, at, sectors: 12288, fill });
        const links = [
          { growth: 0, steps: [writes(1, 0), writes(2, 0.5)] },
          { growth: 0, steps: [writes(3, 0.25), writes(4, 0.5)] },
        ];
        const aligned: ChainShape = { ...shape(format), links };
        const { paths } = await buildChainIn(systemHost(), mounted.path, aligned);
        const [child = '', base = ''] = paths;
        const flat = path.join(mounted.path, 'flat.raw');
        const raw = path.join(testFolder(), 'flat.raw');
        await vhdkitJson(['convert', child, flat]);
        copyFileSync(flat, raw);
        const { bytes } = await vhdkitJson(['merge', child]);
        expect(bytes).toEqual({ shared: 12 * MiB, kernelCopied: 0, buffered: 0, zeroed: 0 });
        expect((await fileExtents(base)).shared).toBeGreaterThanOrEqual(12 * MiB);
        const qemuFormat = format === 'vhd' ? 'vpc' : 'vhdx';
        const [merged, wanted] = [
          { path: base, format: qemuFormat },
          { path: raw, format: 'raw' },
        ] as const;
        expect(await qemuDifference(merged, wanted)).toBeUndefined();
      } finally {
        mounted.unmount();
      }
    },
  );
});
